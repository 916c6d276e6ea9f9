"""COLMAP as a reference: what it finds, what is kept, and every way in which it may fail."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from manyview.datasets.posed_set import PosedSet
from manyview.errors import MissingExtraError, UsageError
from manyview.evaluate.protocols.measures import RelativePose, Trajectory
from manyview.evaluate.references import colmap, reference_names
from manyview.evaluate.references.colmap import MapperOptions, colmap_estimate
from manyview.evaluate.runner.pairing import camera_pair
from manyview.synthetic.demo import demo_scene
from manyview.synthetic.files import write_scene
from tests.datasets.posed_fixtures import write_image

HALF = """
def run(request):
    camera, matrix = [[1, 0, 0, 5], [0, 1, 0, 6], [0, 0, 1, 7]], [[9, 0, 4], [0, 9, 3], [0, 0, 1]]
    answer = {"cameras": {"000001.png": camera}, "intrinsics": {"000001.png": matrix}}
    return answer | {"models": 2, "points": 9, "reprojection_px": 0.5}
"""


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{name}.png" for name in "ab"]
    for index, path in enumerate(paths):
        write_image(path, index)
    return paths


@pytest.fixture
def worker(tmp_path: Path, monkeypatch):
    """Puts a program in the place of the one that runs COLMAP; a list of runs."""
    monkeypatch.setattr(colmap, "require_colmap", lambda: None)

    def put(program: str) -> Path:
        path = tmp_path / "worker.py"
        runs = tmp_path / "runs"
        path.write_text(f"open({str(runs)!r}, 'a').write('x')\n{program}")
        monkeypatch.setattr(colmap, "_WORKER", path)
        return runs

    return put


@pytest.mark.slow
def test_colmap_finds_the_cameras_of_a_textured_room(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    pictures = write_scene(tmp_path / "room", demo_scene(8, 240, 320))
    truth = np.load(tmp_path / "room" / "truth.npz")["cam_from_world"].astype(np.float64)
    posed = PosedSet("room", tuple(sorted(pictures.iterdir())), truth)
    found = colmap_estimate(posed.images, folder=tmp_path / "kept", threads=1)
    assert found.given.all() and "8 of 8 views" in found.notes[0]
    pair = camera_pair(found.cam_from_world, posed)
    assert RelativePose().figures(pair)["auc_5"] > 90
    assert found.intrinsics is not None and np.ptp(found.intrinsics[:, 0, 0]) == 0
    assert Trajectory().figures(pair)["ate_share"] < 0.02
    again = colmap_estimate(posed.images, threads=3)
    np.testing.assert_array_equal(again.cam_from_world, found.cam_from_world)


@pytest.mark.parametrize("sizes", [((32, 24),) * 3, ((32, 24), (24, 32), (40, 24))])
def test_pictures_without_texture_are_a_row_that_says_why(sizes: tuple, tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path, size in zip(paths, sizes):
        write_image(path, 1, size)
    found = colmap_estimate(paths, threads=1)
    assert not found.given.any() and found.lasting
    assert found.notes == ("colmap: no reconstruction: COLMAP found no pair of images to begin with",)


def test_views_out_of_the_model_have_no_camera(images: list[Path], worker) -> None:
    worker(HALF)
    found = colmap_estimate(images)
    assert found.given.tolist() == [False, True] and found.cam_from_world[1, :, 3].tolist() == [5, 6, 7]
    assert "1 of 2 views in the largest of 2 models" in found.notes[0]


def test_kept_cameras_are_given_back_for_the_same_pictures_and_settings(
    images: list[Path], worker, tmp_path: Path
) -> None:
    runs, folder = worker(HALF), tmp_path / "kept"
    first = colmap_estimate(images, folder=folder)
    again = colmap_estimate(images, folder=folder)
    np.testing.assert_array_equal(again.cam_from_world, first.cam_from_world)
    np.testing.assert_array_equal(again.intrinsics, first.intrinsics)
    assert again.seconds == first.seconds and again.notes == first.notes and runs.read_text() == "x"
    colmap_estimate(images, MapperOptions(seed=1), folder=folder)
    colmap_estimate(images[::-1], folder=folder)
    write_image(images[0], 7)
    colmap_estimate(images, folder=folder)
    assert runs.read_text() == "xxxx"
    for path in folder.iterdir():
        path.write_text(json.dumps({"cameras": 3}))
    assert colmap_estimate(images, folder=folder).given.any() and runs.read_text() == "xxxxx"


@pytest.mark.parametrize(
    ("program", "options", "why"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", MapperOptions(), "ended with code -11"),
        ("import time; time.sleep(30)", MapperOptions(limit_s=0.5), "no result within 0.5 s"),
    ],
)
def test_a_crash_or_no_end_is_reported_and_not_kept(
    program: str, options: MapperOptions, why: str, images: list[Path], worker, tmp_path: Path
) -> None:
    worker(program)
    found = colmap_estimate(images, options, tmp_path / "kept")
    assert not found.given.any() and why in found.notes[0] and not found.lasting
    assert not (tmp_path / "kept").exists()


def test_names_are_checked_before_anything_runs(monkeypatch) -> None:
    assert reference_names(["identity,mean-step", "identity"]) == ("identity", "mean-step")
    assert reference_names(["none"]) == reference_names([]) == ()
    with pytest.raises(UsageError, match="glomap"):
        reference_names(["glomap"])
    monkeypatch.setattr(colmap.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="colmap"):
        reference_names(["colmap"])
    with pytest.raises(ValueError, match="min_model_size"):
        MapperOptions(min_model_size=1)
