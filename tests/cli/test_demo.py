"""`manyview demo DIR` writes into a folder of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from manyview.errors import OutputError
from manyview.synthetic import write_scene
from manyview.synthetic.demo import demo_scene

from .conftest import Command


@pytest.fixture
def nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(*_: object, **__: object) -> None:
        raise OutputError("the demo runs")

    monkeypatch.setattr("manyview.models.load.load", runs)


def listing(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(p), p.lstat().st_mtime_ns) for p in folder.rglob("*"))


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_a_folder_of_photographs_is_left_alone(command: Command, photos: Path, overwrite: list[str]):
    before = listing(photos.parent)
    status, stdout, stderr = command("demo", photos, *overwrite)
    assert status == 1 and not stdout and str(photos) in stderr
    assert listing(photos.parent) == before


@pytest.mark.parametrize("part", ["scene", "result"])
def test_links_are_not_followed(
    command: Command, photos: Path, tmp_path: Path, nothing_runs: None, part: str
):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / part).symlink_to(photos)
    before = listing(tmp_path)
    status, _, stderr = command("demo", tmp_path / "d", "--overwrite")
    assert status == 1 and part in stderr and "runs" not in stderr and listing(tmp_path) == before


def test_a_file_and_what_a_demo_may_use(command: Command, tmp_path: Path, nothing_runs: None):
    (tmp_path / "file").write_text("text")
    assert str(tmp_path / "file") in command("demo", tmp_path / "file")[2]
    (tmp_path / "empty").mkdir()
    (tmp_path / "earlier" / "scene").mkdir(parents=True)
    for name in ("new", "empty", "earlier"):
        assert "the demo runs" in command("demo", tmp_path / name)[2]


def test_a_scene_is_not_replaced_through_links(tmp_path: Path):
    batch = demo_scene(2, 28, 28)
    write_scene(tmp_path / "scene", batch)
    os.rename(tmp_path / "scene" / "images", tmp_path / "elsewhere")
    (tmp_path / "scene" / "images").symlink_to(tmp_path / "elsewhere")
    before = listing(tmp_path)
    with pytest.raises(OutputError, match="scene"):
        write_scene(tmp_path / "scene", batch, overwrite=True)
    assert listing(tmp_path) == before
