"""Exports are all or nothing, replace only what ManyView wrote, and say why they do not."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from manyview.errors import OutputError
from manyview.export import PlyOptions, export
from manyview.export.ply import write_ply
from manyview.files import staging
from manyview.files.manifest import MANIFEST_NAME
from manyview.files.staging import staged_files
from manyview.files.writing import atomic_file, format_bytes
from manyview.reconstruction.result.result import Reconstruction
from tests.analytic_scene import room_scene


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    return room_scene(views=3)[0]


def listing(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_manifest_says_what_was_written_and_from_what(tmp_path: Path, scene: Reconstruction) -> None:
    written = export(scene, tmp_path / "new" / "out", "ply")
    manifest = json.loads((tmp_path / "new" / "out" / MANIFEST_NAME).read_text())
    entry = manifest["exports"]["ply"]
    assert sorted(entry["files"]) == [path.name for path in written] == ["cameras.ply", "points.ply"]
    assert entry["settings_hash"] == scene.settings_hash and entry["options"]["min_conf_percentile"] == 50.0


def test_several_formats_share_a_folder_with_other_files(tmp_path: Path, scene: Reconstruction) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    export(scene, tmp_path, "ply")
    export(scene, tmp_path, "depth")
    assert {"mine.txt", "points.ply", "depth/depth.json", MANIFEST_NAME} <= set(listing(tmp_path))
    assert (tmp_path / "mine.txt").read_text() == "mine"


def test_the_same_export_again_changes_nothing(tmp_path: Path, scene: Reconstruction) -> None:
    first = export(scene, tmp_path, "ply")
    stamps = [path.stat().st_mtime_ns for path in first]
    assert export(scene, tmp_path, "ply") == first
    assert [path.stat().st_mtime_ns for path in first] == stamps


def test_another_export_needs_overwrite(tmp_path: Path, scene: Reconstruction) -> None:
    export(scene, tmp_path, "ply")
    old = (tmp_path / "points.ply").read_bytes()
    with pytest.raises(OutputError, match=r"cameras\.ply") as error:
        export(scene, tmp_path, "ply", PlyOptions(min_conf_percentile=0))
    assert "--overwrite" in str(error.value)
    assert (tmp_path / "points.ply").read_bytes() == old
    export(scene, tmp_path, "ply", PlyOptions(min_conf_percentile=0), overwrite=True)
    assert (tmp_path / "points.ply").read_bytes() != old


@pytest.mark.parametrize("overwrite", [False, True])
def test_foreign_and_changed_files_are_never_replaced(
    tmp_path: Path, scene: Reconstruction, overwrite: bool
) -> None:
    (tmp_path / "points.ply").write_text("somebody else's")
    with pytest.raises(OutputError, match=r"points\.ply"):
        export(scene, tmp_path, "ply", overwrite=overwrite)
    assert listing(tmp_path) == ["points.ply"]
    (tmp_path / "points.ply").unlink()
    export(scene, tmp_path, "ply")
    (tmp_path / "points.ply").write_text("edited since")
    with pytest.raises(OutputError, match=r"points\.ply"):
        export(scene, tmp_path, "ply", PlyOptions(cameras=False), overwrite=overwrite)
    assert (tmp_path / "points.ply").read_text() == "edited since"


def test_overwrite_removes_stale_files_of_the_same_format_only(tmp_path: Path, scene: Reconstruction) -> None:
    export(scene, tmp_path, "depth")
    export(scene, tmp_path, "ply")
    (tmp_path / "depth" / "view_1.png").write_bytes(b"edited")
    smaller = room_scene(views=1)[0]
    export(smaller, tmp_path, "depth", overwrite=True)
    assert [name for name in listing(tmp_path) if name.startswith("depth")] == [
        "depth/depth.json",
        "depth/view_0.png",
        "depth/view_1.png",
    ]
    assert (tmp_path / "depth" / "view_1.png").read_bytes() == b"edited"
    assert (tmp_path / "points.ply").exists() and (tmp_path / "cameras.ply").exists()


def test_a_damaged_manifest_stops_everything(tmp_path: Path, scene: Reconstruction) -> None:
    (tmp_path / MANIFEST_NAME).write_text('{"exports": [')
    with pytest.raises(OutputError, match=MANIFEST_NAME):
        export(scene, tmp_path, "ply", overwrite=True)
    (tmp_path / MANIFEST_NAME).write_text('{"exports": {"ply": 3}}')
    with pytest.raises(OutputError, match=MANIFEST_NAME):
        export(scene, tmp_path, "ply", overwrite=True)


def test_a_file_in_place_of_the_folder(tmp_path: Path, scene: Reconstruction) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="out"):
        export(scene, tmp_path / "out", "ply")
    with pytest.raises(OutputError, match="out"):
        export(scene, tmp_path / "out" / "below", "ply")


def test_too_little_space_raises_before_writing(
    tmp_path: Path, scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=5))
    with pytest.raises(OutputError, match=r"[\d.]+ kB .* 5 B"):
        export(scene, tmp_path / "out", "npz")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_disk_that_fills_up_leaves_the_folder_as_it_was(tmp_path: Path, code: int) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with (
        pytest.raises(OutputError, match=r"7\.0 MB"),
        staged_files(tmp_path, "depth", {}, needed_bytes=7_000_000) as stage,
    ):
        stage.file("depth/half.png").write_bytes(b"half")
        raise OSError(code, os.strerror(code))
    assert listing(tmp_path) == ["mine.txt"]


def test_a_disk_filled_to_the_last_byte_is_noticed_after_writing(
    tmp_path: Path, scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    with (
        pytest.raises(OutputError, match="out"),
        staged_files(tmp_path / "out", "depth", {}, needed_bytes=10) as stage,
    ):
        stage.file("a.png").write_bytes(b"cut by a library that does not check")
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    assert not (tmp_path / "out").exists()


def test_an_interrupt_leaves_nothing(
    tmp_path: Path, scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: Path) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(staging, "file_sha256", interrupt)
    with pytest.raises(KeyboardInterrupt):
        export(scene, tmp_path / "a" / "out", "ply")
    assert not (tmp_path / "a").exists()


def test_no_permission_is_an_output_error(tmp_path: Path) -> None:
    with (
        pytest.raises(OutputError, match="out"),
        staged_files(tmp_path / "out", "depth", {}, needed_bytes=10),
    ):
        raise PermissionError(errno.EACCES, "Permission denied", str(tmp_path / "out"))


def test_atomic_file_keeps_the_old_content_on_failure(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old" and listing(tmp_path) == ["a.txt"]


def test_errors_that_are_not_the_disks_pass_through(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        write_ply(tmp_path / "missing" / "a.ply", np.zeros((1, 3)), np.zeros((1, 3), np.uint8))


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1500, "1.5 kB"),
        (123_456_789, "123 MB"),
        (2.2e9, "2.2 GB"),
        (5e12, "5.0 TB"),
    ],
)
def test_format_bytes(count: float, text: str) -> None:
    assert format_bytes(count) == text
