"""Files that a person names are never replaced unasked, and never where they are no regular files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from manyview.errors import OutputError
from manyview.files.writing import atomic_file
from tests.datasets.posed_fixtures import write_plain
from tests.train.tiny import tiny_config

from .conftest import Command


def _file(path: Path) -> None:
    path.write_text("years of work")


def _folder(path: Path) -> None:
    path.mkdir()


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.with_name("far").write_text("years of work")
    path.symlink_to(path.with_name("far"))


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def _below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("years of work")


def state(folder: Path) -> list[tuple[str, int, int]]:
    return sorted((str(p), p.lstat().st_mode, p.lstat().st_mtime_ns) for p in folder.parent.rglob("*"))


# Each fails for another reason, with a message that lacks the name of the file, once it has begun.
WRITERS = {
    "evaluate --json": lambda path: ("evaluate", "synthetic", "--model", "nowhere", "--json", path),
    "train --weights": lambda path: ("train", "base", "--out", "nowhere", "--weights", path),
}


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize(
    ("make", "asked"),
    [(_file, False), *((m, True) for m in (_folder, _pipe, _link, _dangling, _below_a_file))],
)
def test_what_is_there_is_left_alone(
    command: Command, tmp_path: Path, make: Callable[[Path], None], asked: bool, writer: str
):
    path = tmp_path / "outputs" / "named"
    path.parent.mkdir()
    make(path)
    before = state(path.parent)
    status, stdout, stderr = command(*WRITERS[writer](path), *(["--overwrite"] if asked else []))
    assert status == 1 and not stdout and str(path) in stderr, stderr
    assert state(path.parent) == before


def test_comparisons(command: Command, weights: Path, tmp_path: Path):
    write_plain(tmp_path / "data" / "kitchen")
    out = tmp_path / "out"
    line = ("evaluate", "plain", "--root", tmp_path / "data", "--model", weights, "--views", 2)
    line = (*line, "--workers", 1, "--accel", "frame", "--out", out)
    # A table of somebody else's with the name of ours.
    out.mkdir()
    (out / "plain.default.md").write_text("years of work")
    status, _, stderr = command(*line)
    assert status == 1 and "plain.default.md" in stderr and len(list(out.iterdir())) == 1
    assert command(*line, "--overwrite")[0] == 0
    compare = ("evaluate", "compare", out / "plain.default.json")
    for option in ("--csv", "--markdown", "--plot"):
        named = tmp_path / "named.png"
        named.write_text("years of work")
        status, stdout, stderr = command(*compare, option, named)
        assert status == 1 and not stdout and str(named) in stderr
        assert named.read_text() == "years of work"
        assert command(*compare, option, named, "--overwrite")[0] == 0
        assert named.read_bytes() != b"years of work"


def test_weights_are_replaced_when_asked(command: Command, tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(tiny_config(steps=1).to_json()))
    line = ("train", "base", "--out", tmp_path / "run")
    assert command(*line, "--config", tmp_path / "config.json")[0] == 0
    named = tmp_path / "w.safetensors"
    named.write_text("years of work")
    line = (*line, "--weights", named, "--scenes", 0)
    assert command(*line)[0] == 1 and named.read_text() == "years of work"
    assert command(*line, "--overwrite")[0] == 0 and named.stat().st_size > 1000


def test_results_of_an_evaluation_that_are_no_files(command: Command, weights: Path, tmp_path: Path):
    for name in ("results.json", "table.md"):
        (tmp_path / name).mkdir()
    for line in (("evaluate", "synthetic"), ("evaluate", "posed", tmp_path), ("analyze", "synthetic")):
        if line[0] == "analyze":
            (tmp_path / "analysis.json").mkdir()
        status, _, stderr = command(*line, "--model", weights, "--out", tmp_path, "--overwrite")
        assert status == 1 and str(tmp_path) in stderr, stderr


def test_nothing_but_a_regular_file_is_replaced(tmp_path: Path):
    _pipe(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(OutputError, match=path.name), atomic_file(path) as part:
            part.write_text("text")
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]
