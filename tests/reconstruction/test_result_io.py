"""Saving and loading: nothing half written, nothing foreign replaced, damage named."""

from __future__ import annotations

import dataclasses
import errno
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from manyview.errors import DamagedInputError, InputError, OutputError
from manyview.export.colmap import ColmapOptions
from manyview.files import transaction
from manyview.reconstruction.result import save as result_save
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.result.save import ARRAYS_NAME, HEADER_NAME, check_output_folder, save
from manyview.reconstruction.result.tracks import Tracks
from tests.analytic_scene import array_hashes, crop_transform, fit_transform, room_scene


@pytest.fixture
def scene() -> Reconstruction:
    transforms = [fit_transform((320, 240), (56, 42)), crop_transform((240, 320), (56, 42), 6)]
    made, _ = room_scene(transforms, ["left/0001.jpg", "frame_000007.png"])
    video = dataclasses.replace(made.views[1], video_frame=7, time_s=0.28)
    return dataclasses.replace(made, views=(made.views[0], video))


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("with_head", [False, True])
@pytest.mark.parametrize("pixel_centres", ["half", "integer"])
def test_round_trip_is_exact(
    tmp_path: Path, scene: Reconstruction, with_head: bool, pixel_centres: str
) -> None:
    head = {"head_points": scene.world_points, "head_points_conf": scene.depth_conf} if with_head else {}
    scene = dataclasses.replace(scene, pixel_centres=pixel_centres, **head)
    before = array_hashes(scene)
    assert save(scene, tmp_path / "a" / "b") == tmp_path / "a" / "b"
    loaded = load_reconstruction(tmp_path / "a" / "b")
    assert array_hashes(loaded) == before == array_hashes(scene)
    for field in (
        "views",
        "settings",
        "timings_s",
        "memory_bytes",
        "notes",
        "pixel_centres",
        "settings_hash",
    ):
        assert getattr(loaded, field) == getattr(scene, field)
    if with_head:
        np.testing.assert_array_equal(loaded.head_points, scene.head_points)
    else:
        assert loaded.head_points is None
    assert listing(tmp_path / "a" / "b") == [ARRAYS_NAME, HEADER_NAME]


def test_header_says_version_settings_and_conventions(tmp_path: Path, scene: Reconstruction) -> None:
    save(scene, tmp_path)
    header = json.loads((tmp_path / HEADER_NAME).read_text())
    assert header["format_version"] == 1 and header["settings"] == scene.settings
    assert header["settings_hash"] == scene.settings_hash and "OpenCV" in header["conventions"]["axes"]
    assert header["views"][0]["transform"]["upright_width"] == 320


def test_a_folder_that_holds_something_else_is_refused(tmp_path: Path, scene: Reconstruction) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match=r"thesis\.tex.*--overwrite"):
        save(scene, tmp_path)
    assert listing(tmp_path) == ["thesis.tex"]
    save(scene, tmp_path, overwrite=True)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
    assert listing(tmp_path) == [ARRAYS_NAME, HEADER_NAME, "thesis.tex"]


def test_overwrite_replaces_our_own_files_and_needs_to_be_asked(
    tmp_path: Path, scene: Reconstruction
) -> None:
    save(scene, tmp_path)
    other = dataclasses.replace(scene, settings={"model": "other"})
    with pytest.raises(OutputError, match="--overwrite"):
        save(other, tmp_path)
    assert load_reconstruction(tmp_path).settings == scene.settings
    save(other, tmp_path, overwrite=True)
    assert load_reconstruction(tmp_path).settings == {"model": "other"}


@pytest.mark.parametrize("name", [HEADER_NAME, ARRAYS_NAME])
@pytest.mark.parametrize("content", ['{"format": "other"}', "[]", "not json"])
def test_overwrite_never_replaces_a_foreign_file(
    tmp_path: Path, scene: Reconstruction, name: str, content: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(OutputError, match=name):
        save(scene, tmp_path, overwrite=True)
    assert (tmp_path / name).read_text() == content and listing(tmp_path) == [name]


def test_arrays_left_without_header_by_a_crash_can_be_overwritten(
    tmp_path: Path, scene: Reconstruction
) -> None:
    save(scene, tmp_path)
    (tmp_path / HEADER_NAME).unlink()
    save(scene, tmp_path, overwrite=True)
    load_reconstruction(tmp_path)


def test_litter_of_file_browsers_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").write_text("x")
    check_output_folder(tmp_path)
    check_output_folder(tmp_path / "new")


def test_a_file_instead_of_a_folder_is_refused(tmp_path: Path, scene: Reconstruction) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(OutputError, match="out"):
        save(scene, tmp_path / "out")
    with pytest.raises(OutputError, match="out"):
        save(scene, tmp_path / "out" / "deeper")


def test_too_little_space_is_told_before_writing(
    tmp_path: Path, scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match=r"new/er: .*[\d.]+ kB .*1\.0 kB"):
        save(scene, tmp_path / "new" / "er")
    assert listing(tmp_path) == []


@pytest.mark.parametrize("keep_old", [False, True])
def test_a_disk_that_fills_up_leaves_no_half_file(
    tmp_path: Path, scene: Reconstruction, monkeypatch: pytest.MonkeyPatch, keep_old: bool
) -> None:
    folder = tmp_path / "out"
    if keep_old:
        save(scene, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*")} if keep_old else {}

    def fill_up(path: Path) -> None:
        assert path.stat().st_size > 1000
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(transaction, "flush", fill_up)
    with pytest.raises(OutputError, match=r"out: .*[\d.]+ kB"):
        save(scene, folder, overwrite=keep_old)
    assert (
        {path: path.read_bytes() for path in folder.rglob("*")} == before if keep_old else not folder.exists()
    )


def test_the_disk_error_of_safetensors_is_understood(
    tmp_path: Path, scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def fail(*args: object, **kwargs: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(result_save, "save_file", fail)
    with pytest.raises(OutputError, match="out"):
        save(scene, tmp_path / "out")
    assert listing(tmp_path) == []


def test_an_interrupt_leaves_what_was_there(
    tmp_path: Path, scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(scene, tmp_path)
    before = (tmp_path / HEADER_NAME).read_bytes()

    def interrupt(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(transaction, "flush", interrupt)
    with pytest.raises(KeyboardInterrupt):
        save(scene, tmp_path, overwrite=True)
    assert listing(tmp_path) == [ARRAYS_NAME, HEADER_NAME]
    assert (tmp_path / HEADER_NAME).read_bytes() == before
    load_reconstruction(tmp_path)


def edit_header(folder: Path, **changes: object) -> None:
    path = folder / HEADER_NAME
    header = json.loads(path.read_text())
    path.write_text(json.dumps({**header, **changes}))


def test_missing_things_are_named(tmp_path: Path, scene: Reconstruction) -> None:
    with pytest.raises(InputError, match="nothing"):
        load_reconstruction(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"reconstruction\.json"):
        load_reconstruction(tmp_path)
    save(scene, tmp_path)
    (tmp_path / ARRAYS_NAME).unlink()
    with pytest.raises(DamagedInputError, match=r"arrays\.safetensors"):
        load_reconstruction(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("name", [HEADER_NAME, ARRAYS_NAME])
def test_truncated_files_are_named(tmp_path: Path, scene: Reconstruction, name: str, share: float) -> None:
    save(scene, tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DamagedInputError, match=name):
        load_reconstruction(tmp_path)


def test_other_versions_and_foreign_headers_are_refused(tmp_path: Path, scene: Reconstruction) -> None:
    save(scene, tmp_path)
    edit_header(tmp_path, format_version=2, manyview_version="9.0")
    with pytest.raises(InputError, match=r"version 2 .*9\.0.*version 1"):
        load_reconstruction(tmp_path)
    edit_header(tmp_path, format="something")
    with pytest.raises(InputError, match=HEADER_NAME):
        load_reconstruction(tmp_path)
    (tmp_path / HEADER_NAME).write_text("[1, 2]")
    with pytest.raises(InputError, match=HEADER_NAME):
        load_reconstruction(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"views": None}, HEADER_NAME),
        ({"views": [{"name": "x"}]}, HEADER_NAME),
        ({"settings": {"model": "edited"}}, "settings"),
        ({"save_id": "0"}, ARRAYS_NAME),
        ({"pixel_centres": "corner"}, "pixel_centres"),
        ({"views": []}, "0 view records"),
    ],
)
def test_damaged_headers_are_one_sentence(
    tmp_path: Path, scene: Reconstruction, changes: dict[str, object], named: str
) -> None:
    save(scene, tmp_path)
    edit_header(tmp_path, **changes)
    with pytest.raises(DamagedInputError, match=named):
        load_reconstruction(tmp_path)


def test_a_header_without_a_field_names_it(tmp_path: Path, scene: Reconstruction) -> None:
    save(scene, tmp_path)
    header = json.loads((tmp_path / HEADER_NAME).read_text())
    del header["notes"]
    (tmp_path / HEADER_NAME).write_text(json.dumps(header))
    with pytest.raises(DamagedInputError, match="notes"):
        load_reconstruction(tmp_path)


def test_arrays_that_are_not_a_reconstruction_are_refused(tmp_path: Path, scene: Reconstruction) -> None:
    from safetensors.numpy import save_file

    save(scene, tmp_path)
    save_file({"images": scene.images}, tmp_path / ARRAYS_NAME)
    with pytest.raises(DamagedInputError, match="cam_from_world"):
        load_reconstruction(tmp_path)


def test_a_limit_on_the_size_of_files_is_one_sentence(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    scene, _ = room_scene()
    exports: dict[str, object] = {"npz": None}
    if importlib.util.find_spec("pycolmap") is not None:  # which says nothing of it
        exports["colmap"] = ColmapOptions(images="none")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    try:
        with pytest.raises(OutputError, match=str(tmp_path)):
            scene.save(tmp_path / "a")
        for name, options in exports.items():
            with pytest.raises(OutputError, match=str(tmp_path)):
                scene.export(tmp_path / "a", name, options)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not (tmp_path / "a").exists()


def test_what_a_refinement_adds_comes_back(tmp_path: Path, scene: Reconstruction) -> None:
    made = scene
    shape = made.z_depth.shape
    tracks = Tracks(
        np.array([[0.0, 0, 2], [1, 0, 3]]),
        np.zeros((2, 3), np.uint8),
        np.array([0, 0, 1, 1]),
        np.array([0, 1, 0, 1]),
        np.arange(8.0).reshape(4, 2),
    )
    made = dataclasses.replace(
        made,
        tracks=tracks,
        distortion=np.full((len(made), 4), 0.01),
        masked=np.arange(np.prod(shape)).reshape(shape) % 3 == 0,
        confirmed=np.arange(np.prod(shape)).reshape(shape) % 2 == 0,
        refinement={"accepted": True, "sentence": "better"},
    )
    made.save(tmp_path)
    again = load_reconstruction(tmp_path)
    for name in ("distortion", "masked", "confirmed"):
        np.testing.assert_array_equal(getattr(again, name), getattr(made, name))
    for field in dataclasses.fields(Tracks):
        np.testing.assert_array_equal(getattr(again.tracks, field.name), getattr(tracks, field.name))
    assert again.refinement == made.refinement
    assert not again.valid[made.masked].any()


def test_tracks_that_do_not_fit_the_views_are_refused(scene: Reconstruction) -> None:
    made = scene
    seen = np.array([0, len(made)])
    tracks = Tracks(
        np.zeros((1, 3)), np.zeros((1, 3), np.uint8), np.array([0, 0]), seen, np.array([[1.0, 1], [2, 2]])
    )
    with pytest.raises(ValueError, match="tracks"):
        dataclasses.replace(made, tracks=tracks)
    with pytest.raises(ValueError, match="tracks"):
        dataclasses.replace(tracks, point_index=np.array([1, 0]))
