"""The COLMAP export, read back with pycolmap: original resolution, true points, adjustable cameras."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyview.errors import InputError, MissingExtraError, UsageError
from manyview.export import ColmapOptions, TrackOptions, export
from manyview.reconstruction.result.result import Reconstruction
from tests.analytic_scene import (
    Truth,
    array_hashes,
    crop_transform,
    fit_transform,
    pad_transform,
    room_scene,
    write_sources,
)

pycolmap = pytest.importorskip("pycolmap")
pycolmap.logging.minloglevel = 2

MODEL_ONLY = ColmapOptions(images="none", tracks=TrackOptions(measure=False))
TRANSFORMS = [
    fit_transform((320, 240), (56, 56)),
    crop_transform((240, 320), (56, 56)),
    pad_transform((200, 320), (56, 56)),
    fit_transform((240, 320), (56, 56), orientation=6),
    crop_transform((240, 320), (56, 56), orientation=8),
    pad_transform((320, 200), (56, 56), orientation=3),
]
NAMES = ["left/1.jpg", "left/2.png", "right/1.jpg", "right/turned.jpg", "turned.png", "half turn.jpg"]


@pytest.fixture(scope="module")
def mixed() -> tuple[Reconstruction, Truth]:
    return room_scene(TRANSFORMS, [name.replace(" ", "_") for name in NAMES])


@pytest.mark.parametrize("files", ["binary", "text", "both"])
def test_model_at_original_resolution(
    tmp_path: Path, mixed: tuple[Reconstruction, Truth], files: str
) -> None:
    scene, truth = mixed
    before = array_hashes(scene)
    written = export(scene, tmp_path, "colmap", dataclasses.replace(MODEL_ONLY, files=files))
    assert array_hashes(scene) == before
    stems = {path.name for path in written}
    assert {path.parent for path in written} == {tmp_path / "sparse" / "0"}
    for extension, wanted in ((".bin", files != "text"), (".txt", files != "binary")):
        names = {f"{name}{extension}" for name in ("cameras", "images", "points3D", "rigs", "frames")}
        assert (names <= stems) == wanted and bool(names & stems) == wanted
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    assert model.num_reg_images() == len(scene) and model.num_points3D() > 1000
    for index, view in enumerate(scene.views):
        image, camera = model.images[index + 1], model.cameras[index + 1]
        assert image.name == view.name and camera.model_name == "PINHOLE"
        size = (view.transform.upright_width, view.transform.upright_height)
        assert (camera.width, camera.height) == size
        matrix = truth.upright_intrinsics[index]
        np.testing.assert_allclose(camera.params, matrix[[0, 1, 0, 1], [0, 1, 2, 2]], rtol=1e-9)
        np.testing.assert_allclose(image.cam_from_world().matrix(), scene.cam_from_world[index], atol=1e-9)


def test_points_are_where_the_original_pixels_see_them(
    tmp_path: Path, mixed: tuple[Reconstruction, Truth]
) -> None:
    scene, truth = mixed
    export(scene, tmp_path, "colmap", MODEL_ONLY)
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    assert np.percentile([point.error for point in model.points3D.values()], 80) < 1e-3
    assert model.compute_mean_reprojection_error() < 1.0
    for index in range(len(scene)):
        seen = [point for point in model.images[index + 1].points2D if point.has_point3D()]
        assert len(seen) > 100
        pixels = np.array([point.xy for point in seen])
        camera = model.cameras[index + 1]
        assert (pixels >= 0).all() and (pixels <= [camera.width, camera.height]).all()
        points = np.array([model.points3D[point.point3D_id].xyz for point in seen])
        distance = np.linalg.norm(truth.surface(index, pixels) - points, axis=1)
        assert np.percentile(distance, 80) < 1e-4


def test_integer_pixel_centres_are_half_a_network_pixel_off(tmp_path: Path) -> None:
    options = dataclasses.replace(MODEL_ONLY, tracks=TrackOptions(measure=False, max_error_px=2.0))
    means = {}
    for centres in ("half", "integer"):
        scene, _ = room_scene(views=5, pixel_centres=centres)
        export(scene, tmp_path / centres, "colmap", options)
        model = pycolmap.Reconstruction(tmp_path / centres / "sparse" / "0")
        means[centres] = np.median([point.error for point in model.points3D.values() if point.has_error()])
    # Half a pixel of the network in x and in y is sqrt(1/2) * 320 / 56 pixels of the source.
    assert means["half"] < 1e-3
    assert means["integer"] == pytest.approx(np.sqrt(0.5) * 320 / 56, rel=0.1)


def relative_errors(cameras: np.ndarray, truth: np.ndarray) -> float:
    """Median angle in degrees between the rotations of all pairs of views."""
    angles = []
    for i in range(len(truth)):
        for j in range(i):
            found, true = (c[i, :, :3] @ c[j, :, :3].T for c in (cameras, truth))
            angles.append(np.degrees(np.arccos(np.clip((np.trace(found @ true.T) - 1) / 2, -1, 1))))
    return float(np.median(angles))


def test_bundle_adjustment_repairs_wrong_cameras(tmp_path: Path) -> None:
    scene, _ = room_scene([fit_transform((672, 504), (336, 252))] * 5)
    rng = np.random.default_rng(0)
    wrong = scene.cam_from_world.copy()
    for camera in wrong[1:]:
        x, y, z = rng.normal(0, np.radians(0.08), 3)
        turn = np.array([[1, -z, y], [z, 1, -x], [-y, x, 1]])
        u, _, vt = np.linalg.svd(turn)
        camera[:] = (u @ vt) @ camera
        camera[:, 3] += rng.normal(0, 0.003, 3)
    scene_with_errors = dataclasses.replace(scene, cam_from_world=wrong)
    options = ColmapOptions(images="none", tracks=TrackOptions(max_points=3000))
    export(scene_with_errors, tmp_path, "colmap", options)
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    before = model.compute_mean_reprojection_error()
    assert 0.2 < before < 6.0  # of source pixels, twice the network's
    adjust = pycolmap.BundleAdjustmentOptions(print_summary=False, refine_focal_length=False)
    pycolmap.bundle_adjustment(model, adjust)
    model.update_point_3d_errors()
    assert model.compute_mean_reprojection_error() < 0.3 * before
    adjusted = np.stack([model.images[index + 1].cam_from_world().matrix() for index in range(len(scene))])
    start = relative_errors(wrong, scene.cam_from_world)
    assert start > 0.03 and relative_errors(adjusted, scene.cam_from_world) < 0.25 * start


def test_images_are_upright_and_equal_the_cameras(tmp_path: Path) -> None:
    scene, truth = room_scene(TRANSFORMS, NAMES)
    scene = write_sources(scene, truth, tmp_path / "source")
    written = export(scene, tmp_path / "out", "colmap", ColmapOptions(tracks=MODEL_ONLY.tracks))
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    text = tmp_path / "text"
    text.mkdir()
    for path in (tmp_path / "out" / "sparse" / "0").glob("*.txt"):
        (text / path.name).write_bytes(path.read_bytes())
    names = {image.name for image in pycolmap.Reconstruction(text).images.values()}
    assert names == {image.name for image in model.images.values()}
    assert "half_turn.jpg" in names and "left/1.jpg" in names
    for index in range(len(scene)):
        image = model.images[index + 1]
        path = tmp_path / "out" / "images" / image.name
        assert path in written
        with Image.open(path) as picture:
            assert picture.getexif().get(0x0112, 1) == 1
            pixels = np.asarray(picture.convert("RGB")).astype(float)
        assert pixels.shape[:2] == (model.cameras[index + 1].height, model.cameras[index + 1].width)
        expected = truth.upright_image(index).astype(float)
        error = np.abs(pixels - expected).mean()
        assert error < np.abs(np.roll(pixels, 2, axis=1) - expected).mean() and error < 12
    untouched = tmp_path / "out" / "images" / "left" / "1.jpg"
    assert untouched.read_bytes() == (tmp_path / "source" / "left" / "1.jpg").read_bytes()


def test_names_with_spaces_are_refused_where_text_files_would_break(tmp_path: Path) -> None:
    scene, _ = room_scene(TRANSFORMS, NAMES)
    with pytest.raises(UsageError, match="'half turn"):
        export(scene, tmp_path, "colmap", MODEL_ONLY)
    export(scene, tmp_path, "colmap", dataclasses.replace(MODEL_ONLY, files="binary"))
    model = pycolmap.Reconstruction(tmp_path / "sparse" / "0")
    assert model.images[6].name == "half turn.jpg"


def test_missing_images_are_named_and_nothing_is_left(tmp_path: Path) -> None:
    scene, _ = room_scene(views=2)
    with pytest.raises(InputError, match=r"view_0\.png.*nowhere"):
        export(scene, tmp_path / "out", "colmap")
    assert not (tmp_path / "out").exists()


def test_depth_that_agrees_nowhere_is_told_and_filled_on_request(tmp_path: Path) -> None:
    scene, _ = room_scene(views=3)
    depth = scene.z_depth * np.array([1.0, 1.3, 1.7], np.float32)[:, None, None]
    scene = dataclasses.replace(scene, z_depth=depth)
    lines: list[str] = []
    export(scene, tmp_path / "plain", "colmap", ColmapOptions(images="none"), tell=lines.append)
    assert any("refine" in line and "--fill" in line for line in lines)
    assert adjusted(tmp_path / "plain").num_points3D() < 100
    options = ColmapOptions(images="none", tracks=TrackOptions(fill=900))
    export(scene, tmp_path / "filled", "colmap", options)
    model = pycolmap.Reconstruction(tmp_path / "filled" / "sparse" / "0")
    assert model.num_points3D() == 900
    filled = {i for i, point in model.points3D.items() if point.track.length() == 0}
    assert len(filled) > 800 and not any(model.points3D[i].has_error() for i in filled)
    before = {i: model.points3D[i].xyz for i in filled}
    after = adjusted(tmp_path / "filled")
    assert all((after.points3D[i].xyz == before[i]).all() for i in filled)


def adjusted(folder: Path) -> "pycolmap.Reconstruction":
    """The exported model after bundle adjustment with COLMAP's defaults; nothing flew away."""
    model = pycolmap.Reconstruction(folder / "sparse" / "0")
    lengths = {point.track.length() for point in model.points3D.values()}
    assert not lengths & {1}
    observed = [i for i, point in model.points3D.items() if point.track.length() > 1]
    for image in model.images.values():
        size = np.array([image.camera.width, image.camera.height])
        assert all(((p.xy >= 0) & (p.xy <= size)).all() for p in image.points2D)
    before = np.mean([model.points3D[i].error for i in observed]) if observed else 0.0
    pycolmap.bundle_adjustment(model, pycolmap.BundleAdjustmentOptions(print_summary=False))
    model.update_point_3d_errors()
    after = np.mean([model.points3D[i].error for i in observed]) if observed else 0.0
    assert after <= before + 1e-6
    for camera in model.cameras.values():
        assert np.isfinite(camera.params).all()
    return model


def test_without_pycolmap_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(MissingExtraError, match=r"manyview\[colmap\]"):
        export(room_scene(views=2)[0], tmp_path, "colmap", MODEL_ONLY)
