"""Mapping of rendered views, what goes on after a kill, and every way in which it may find nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import sqlite3
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from manyview.errors import InputError, ManyViewError
from manyview.evaluate.metrics.pose import auc, pair_errors
from manyview.refine.mapping import KnownViewCameras, solve
from manyview.refine.mapping.resect import resect_by_depth
from manyview.refine.options import RefineOptions
from manyview.synthetic.demo import demo_scene
from tests.analytic_scene import fit_transform, room_scene, write_sources

pytest.importorskip("pycolmap")
VIEWS, HEIGHT, WIDTH = 8, 240, 320


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """(scene whose cameras are wrong, true cam_from_world, true focal): a furnished room."""
    folder = tmp_path_factory.mktemp("room")
    batch = demo_scene(VIEWS, HEIGHT, WIDTH)
    scene, _ = room_scene([fit_transform((WIDTH, HEIGHT), (56, 42))] * VIEWS)
    images = (batch.images[0].permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8)
    small, records = [], []
    for index, (image, view) in enumerate(zip(images, scene.views, strict=True)):
        path = folder / f"{index}.png"
        Image.fromarray(image).save(path)
        small.append(np.asarray(Image.fromarray(image).resize((56, 42), Image.Resampling.BOX)))
        records.append(dataclasses.replace(view, source=str(path)))
    wrong = scene.intrinsics.copy()
    truth = batch.intrinsics[0].double().numpy()
    wrong[:, [0, 1], [0, 1]] = truth[:, [0, 1], [0, 1]] * 56 / WIDTH * 1.25
    rows, columns = (np.arange(42) * HEIGHT // 42 + 2), (np.arange(56) * WIDTH // 56 + 2)
    depth = batch.z_depth[0].numpy()[:, rows][:, :, columns].astype(np.float32)
    scene = dataclasses.replace(
        scene, views=tuple(records), images=np.stack(small), intrinsics=wrong, z_depth=depth
    )
    return scene, batch.cam_from_world[0].double().numpy(), truth


@pytest.fixture(scope="module")
def solved(rendered, tmp_path_factory):
    """(solution, its working folder, what progress was told)."""
    work, told = tmp_path_factory.mktemp("work"), []
    solution = solve(rendered[0], RefineOptions(), work, progress=lambda *each: told.append(each), threads=1)
    return solution, work, told


def pose_auc(found: np.ndarray, truth: np.ndarray) -> float:
    return auc(pair_errors(torch.from_numpy(found), torch.from_numpy(truth)).worst_deg, 5)


def test_a_rendered_room_gets_its_cameras_from_a_focal_that_is_25_percent_off(rendered, solved) -> None:
    _, truth, intrinsics = rendered
    solution, _, told = solved
    assert set(solution.status) == {"mapped"} and pose_auc(solution.cam_from_world, truth) > 90
    assert solution.intrinsics[:, 0, 0] == pytest.approx(intrinsics[:, 0, 0], rel=0.03)
    assert len(set(solution.camera_of_view.tolist())) == 1
    assert {stage for stage, _, _ in told} >= {"originals"} and all(done <= total for _, done, total in told)
    # Observations are places of features, in network pixels, and none twice.
    tracks = solution.tracks
    assert (tracks.lengths >= 2).all()
    assert ((tracks.pixels >= 0) & (tracks.pixels <= [56, 42])).all()
    places = np.column_stack([tracks.view_index, tracks.pixels])
    assert len(np.unique(places, axis=0)) == len(places)
    held, scale = solution.held_out, 56 / WIDTH
    assert len(held.first)
    first, second = held.first_pixels * scale, held.second_pixels * scale
    both = np.vstack([np.column_stack([held.first, first]), np.column_stack([held.second, second])])
    used = {tuple(row) for row in places.round(6).tolist()}
    assert not any(tuple(row) in used for row in both.round(6).tolist())


def test_a_killed_run_goes_on_from_what_it_found(rendered, solved, tmp_path: Path) -> None:
    solution, found, _ = solved
    work = Path(shutil.copytree(found, tmp_path / "work"))
    key = (work / "database.json").stat().st_mtime_ns
    with contextlib.closing(sqlite3.connect(work / "database.db")) as database, database:
        for table in ("matches", "two_view_geometries"):
            database.execute(f"DELETE FROM {table} WHERE rowid % 2")
        for table in ("keypoints", "descriptors"):
            database.execute(f"DELETE FROM {table} WHERE image_id > 6")
        kept = database.execute("SELECT min(rowid), count(*) FROM two_view_geometries").fetchone()
    assert 0 < kept[1] < VIEWS * (VIEWS - 1) // 2
    again = solve(rendered[0], RefineOptions(), work, threads=1)
    assert (work / "database.json").stat().st_mtime_ns == key
    np.testing.assert_array_equal(again.cam_from_world, solution.cam_from_world)
    np.testing.assert_array_equal(again.tracks.pixels, solution.tracks.pixels)


def test_features_of_other_options_are_not_used(rendered, solved, tmp_path: Path) -> None:
    solution, found, _ = solved
    work = Path(shutil.copytree(found, tmp_path / "work"))
    fewer = solve(rendered[0], RefineOptions(max_features=100), work, threads=1)
    assert len(fewer.tracks.points) < len(solution.tracks.points)


@pytest.mark.parametrize("points", [True, False])
def test_a_view_that_mapping_left_out_is_resected(points: bool, solved, tmp_path: Path) -> None:
    import pycolmap

    _, found, _ = solved
    work = Path(shutil.copytree(found, tmp_path / "work"))
    request = json.loads((work / "request.json").read_text())
    model = pycolmap.Reconstruction(work / "models" / "0")
    image = model.find_image_with_name(request["names"][3])
    expected = image.cam_from_world().matrix()
    if not points:  # depth alone is left where no other view's point is seen
        for point in sorted({p.point3D_id for p in image.points2D if p.has_point3D()})[::2]:
            model.delete_point3D(point)
    model.deregister_frame(image.frame_id)
    grown = resect_by_depth(work, request, model)
    again = grown.find_image_with_name(request["names"][3])
    assert again.has_pose and again.num_points3D > 10
    np.testing.assert_allclose(again.cam_from_world().matrix()[:, :3], expected[:, :3], atol=0.02)


def test_known_cameras_are_kept_as_they_are(rendered, tmp_path: Path) -> None:
    scene, truth, intrinsics = rendered
    known = KnownViewCameras(truth, intrinsics)
    solution = solve(scene, RefineOptions(known_poses="fixed"), tmp_path, known, threads=1)
    assert set(solution.status) == {"fixed"} and solution.in_given_world
    np.testing.assert_allclose(solution.cam_from_world, truth, atol=1e-6)
    np.testing.assert_allclose(solution.intrinsics, intrinsics)
    assert len(solution.tracks.points) > 50


def test_known_poses_give_the_world_and_known_intrinsics_stay(rendered, tmp_path: Path) -> None:
    scene, truth, intrinsics = rendered
    poses = truth.copy()
    poses[-1] = np.nan
    solution = solve(scene, RefineOptions(), tmp_path, KnownViewCameras(poses, intrinsics), threads=1)
    assert solution.in_given_world and set(solution.status) == {"mapped"}
    np.testing.assert_allclose(solution.intrinsics, intrinsics)
    np.testing.assert_allclose(solution.cam_from_world, truth, atol=0.05)


@pytest.mark.parametrize("views", [1, 3])
def test_views_without_texture_or_a_single_one_stay_unrefined(views: int, tmp_path: Path) -> None:
    scene, truth = room_scene(views=views)
    scene = write_sources(scene, truth, tmp_path / "sources")
    grey = np.full_like(scene.images, 90)
    for view in scene.views:
        Image.new("RGB", (320, 240), (90, 90, 90)).save(view.source)
    solution = solve(dataclasses.replace(scene, images=grey), RefineOptions(), tmp_path / "work", threads=1)
    assert set(solution.status) == {"unrefined"} and solution.notes
    assert np.isnan(solution.cam_from_world).all() and not len(solution.tracks.points)
    np.testing.assert_allclose(solution.intrinsics[:, 0, 0], scene.upright_intrinsics[:, 0, 0], rtol=0.02)


def test_identical_views_find_no_depth(rendered, tmp_path: Path) -> None:
    scene = rendered[0]
    same = tuple(dataclasses.replace(view, source=scene.views[0].source) for view in scene.views)
    images = np.repeat(scene.images[:1], len(scene), axis=0)
    solution = solve(
        dataclasses.replace(scene, views=same, images=images), RefineOptions(), tmp_path, threads=1
    )
    assert not len(solution.tracks.points) and len(solution.status) == len(scene)


def test_hidden_pixels_have_no_features(rendered, tmp_path: Path) -> None:
    masked = np.zeros(rendered[0].z_depth.shape, dtype=bool)
    masked[:, :, :28] = True
    solution = solve(dataclasses.replace(rendered[0], masked=masked), RefineOptions(), tmp_path, threads=1)
    found = [solution.tracks.pixels[:, 0], solution.held_out.first_pixels[:, 0] * 56 / WIDTH]
    assert len(solution.held_out.first) and all((x >= 27.9).all() for x in found)


def test_a_crash_is_a_sentence_and_an_interrupt_ends_the_worker(
    rendered, tmp_path: Path, monkeypatch
) -> None:

    module = sys.modules["manyview.refine.mapping.solve"]
    worker = tmp_path / "worker.py"
    monkeypatch.setattr(module, "_WORKER", worker)
    worker.write_text("import os, signal\ndef run(request): os.kill(os.getpid(), signal.SIGSEGV)\n")
    with pytest.raises(ManyViewError, match="-11"):
        solve(rendered[0], RefineOptions(), tmp_path / "work")
    worker.write_text(
        "import json, os, time\n"
        "def run(request):\n"
        "    open('pid', 'w').write(str(os.getpid()))\n"
        "    open('stage.json', 'w').write(json.dumps({'stage': 'mapping', 'total': 0, 'table': None}))\n"
        "    time.sleep(60)\n"
    )

    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "mapping":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        solve(rendered[0], RefineOptions(), tmp_path / "work", progress=interrupt)
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "work" / "pid").read_text()), 0)


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    scene, truth = room_scene(views=2)
    scene = write_sources(scene, truth, tmp_path)
    Path(scene.views[1].source).unlink()
    with pytest.raises(InputError, match=scene.names[1]):
        solve(scene, RefineOptions(), tmp_path / "work")
