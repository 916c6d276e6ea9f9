"""`manyview evaluate posed` as a user calls it; `evaluate synthetic` stays beside it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.datasets.posed_fixtures import write_kitti, write_plain

from .conftest import Command


def test_two_folders_into_files(command: Command, weights: Path, tmp_path: Path) -> None:
    write_plain(tmp_path / "kitchen")
    write_kitti(tmp_path / "sequences" / "03")
    folders = (tmp_path / "kitchen", tmp_path / "sequences" / "03")
    line = ("evaluate", "posed", *folders, "--model", weights, "--views", 3, "--out", tmp_path / "out")
    status, stdout, stderr = command(*line, "--accel", "dense", "avggt")
    assert status == 0, stderr
    assert "## kitchen" in stdout and "| `avggt` |" in stdout and "| mean step |" in stdout
    data = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [one["set"]["format"] for one in data["sets"]] == ["plain", "kitti"]
    assert (tmp_path / "out" / "table.md").is_file()
    status, _, stderr = command(*line)
    assert status == 1 and "--overwrite" in stderr


def test_misuse_is_reported_in_one_sentence(command: Command, weights: Path, tmp_path: Path) -> None:
    write_plain(tmp_path / "kitchen")
    (tmp_path / "photos").mkdir()
    for line, sentence in (
        (("posed",), "give a folder"),
        (("posed", tmp_path / "kitchen", "--views", 1), "at least 2 --views"),
        (("posed", tmp_path / "photos", "--model", weights), "plain: SCENE/poses.txt"),
        (("posed", tmp_path / "nowhere", "--model", weights), "is no folder"),
        (("posed", tmp_path / "kitchen", "--model", weights, "--accel", "fast"), "fast"),
        (("unposed",), "unposed"),
        ((), "synthetic, posed"),
    ):
        status, _, stderr = command("evaluate", *line)
        assert status == 2 and sentence in stderr and stderr.strip().count("\n") <= 1, (line, stderr)


def test_synthetic_is_as_it_was(command: Command, weights: Path) -> None:
    line = ("--model", weights, "--scenes", 1, "--views", 2, "--size", 28, 28, "--accel", "dense")
    status, stdout, stderr = command("evaluate", "synthetic", *line)
    assert status == 0, stderr
    assert "mean pose" in stdout
    status, _, stderr = command("evaluate", "synthetic", "--scenes", 0)
    assert status == 2 and "at least 1 scene" in stderr
