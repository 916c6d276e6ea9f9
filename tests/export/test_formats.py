"""PLY, GLB, NPZ, depth PNG and nerfstudio, each read back by somebody else's code."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from manyview.errors import MissingExtraError, UsageError
from manyview.export import (
    FORMATS,
    DepthOptions,
    GlbOptions,
    NerfstudioOptions,
    NpzOptions,
    PlyOptions,
    check_formats,
    export,
)
from manyview.export.depth import depth_names, to_upright
from manyview.export.frusta import frustum_corners, frustum_size
from manyview.export.nerfstudio import APPLIED_TRANSFORM
from manyview.geometry.unproject_np import camera_centres, pixel_grid, project
from manyview.reconstruction.result.result import Reconstruction
from tests.analytic_scene import (
    array_hashes,
    crop_transform,
    fit_transform,
    pad_transform,
    room_scene,
    write_sources,
)

trimesh = pytest.importorskip("trimesh")

TRANSFORMS = [
    fit_transform((320, 240), (56, 56)),
    crop_transform((240, 320), (56, 56)),
    pad_transform((200, 320), (56, 56)),
    fit_transform((240, 320), (56, 56), orientation=6),
]
NAMES = ["left/1.jpg", "left/2.png", "right/1.jpg", "turned.jpg"]


@pytest.fixture(scope="module")
def scene() -> Reconstruction:
    return room_scene(TRANSFORMS, NAMES)[0]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_export_changes_the_result_and_all_return_existing_files(tmp_path: Path, name: str) -> None:
    scene, truth = room_scene(TRANSFORMS, NAMES)
    scene = write_sources(scene, truth, tmp_path / "source")
    before = array_hashes(scene)
    written = scene.export(tmp_path / "out", name)
    assert array_hashes(scene) == before
    assert written and all(path.is_file() and path.stat().st_size > 0 for path in written)


def test_unknown_formats_and_options_are_usage_errors(tmp_path: Path, scene: Reconstruction) -> None:
    with pytest.raises(UsageError, match=r"'obj'.*colmap, ply, glb"):
        export(scene, tmp_path, "obj")
    with pytest.raises(UsageError, match="'las'"):
        check_formats(["ply", "las"])
    with pytest.raises(UsageError, match=r"'max_point'.*max_points"):
        export(scene, tmp_path, "ply", {"max_point": 3})
    with pytest.raises(UsageError, match=r"PlyOptions.*GlbOptions"):
        export(scene, tmp_path, "ply", GlbOptions())
    assert list(tmp_path.iterdir()) == []


def test_ply_holds_the_point_cloud(tmp_path: Path, scene: Reconstruction) -> None:
    export(scene, tmp_path, "ply", {"min_conf_percentile": 30, "drop_edges": None})
    cloud = scene.point_cloud(30)
    loaded = trimesh.load(tmp_path / "points.ply")
    np.testing.assert_array_equal(loaded.vertices.astype(np.float32), cloud.points)
    np.testing.assert_array_equal(loaded.colors[:, :3], cloud.colours)
    content = (tmp_path / "points.ply").read_bytes()
    header, _, data = content.partition(b"end_header\n")
    assert b"property float confidence" in header
    rows = np.frombuffer(data, dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3), ("confidence", "<f4")])
    np.testing.assert_array_equal(rows["confidence"], cloud.confidence)


def test_ply_cameras_are_a_mesh_around_the_centres(tmp_path: Path, scene: Reconstruction) -> None:
    export(scene, tmp_path, "ply")
    mesh = trimesh.load(tmp_path / "cameras.ply", process=False)
    assert len(mesh.faces) and mesh.faces.max() < len(mesh.vertices)
    centres = camera_centres(scene.cam_from_world)
    per_camera = mesh.vertices.reshape(len(scene), -1, 3)
    distance = np.linalg.norm(per_camera - centres[:, None], axis=2)
    size = frustum_size(scene, scene.point_cloud(50, drop_edges=0.1).points)
    assert (distance.min(1) < 0.05 * size).all() and distance.max() < 3 * size
    colours = mesh.visual.vertex_colors.reshape(len(scene), -1, 4)
    assert (colours == colours[:, :1]).all() and len(np.unique(colours[:, 0], axis=0)) == len(scene)


def test_without_cameras_only_points_are_written(tmp_path: Path, scene: Reconstruction) -> None:
    assert export(scene, tmp_path, "ply", PlyOptions(cameras=False)) == [tmp_path / "points.ply"]
    export(scene, tmp_path, "glb", GlbOptions(cameras=False))
    assert list(trimesh.load(tmp_path / "scene.glb").geometry) == ["points"]


def test_frustum_corners_project_to_the_corners_of_the_image(scene: Reconstruction) -> None:
    corners = frustum_corners(scene, 0.3)
    pixels, z = project(corners[:, 1:5], scene.cam_from_world, scene.intrinsics)
    np.testing.assert_allclose(z, 0.3)
    for index, view in enumerate(scene.views):
        left, top, right, bottom = view.transform.content_box
        expected = [[left, top], [right, top], [right, bottom], [left, bottom]]
        np.testing.assert_allclose(pixels[index], expected, atol=1e-9)


def test_glb_is_y_up_and_cameras_look_along_minus_z(tmp_path: Path, scene: Reconstruction) -> None:
    # The first camera of a scene is usually the world: here it is made so.
    camera = np.concatenate([scene.cam_from_world[0], [[0, 0, 0, 1]]])
    moved = np.stack([matrix @ np.linalg.inv(camera) for matrix in scene.cam_from_world])
    scene = dataclasses.replace(scene, cam_from_world=moved)
    export(scene, tmp_path, "glb", GlbOptions(min_conf_percentile=0, drop_edges=None))
    loaded = trimesh.load(tmp_path / "scene.glb")
    points = loaded.geometry["points"].vertices
    cloud = scene.point_cloud(0)
    np.testing.assert_allclose(points, cloud.points * [1, -1, -1], atol=1e-5)
    # Back to sRGB by the inverse transfer function, within what eight bits of linear light hold.
    linear = loaded.geometry["points"].colors[:, :3] / 255
    srgb = 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    np.testing.assert_allclose(srgb, cloud.colours, atol=7)
    bright = cloud.colours > 100
    assert bright.any()
    np.testing.assert_allclose(srgb[bright], cloud.colours[bright], atol=1)
    first = cloud.view_index == 0
    assert (points[first, 2] < 0).all()
    # The upper rows of the first picture are above the lower ones.
    mask = scene.view_valid(0)
    rows = np.nonzero(mask)[0]
    slope = points[first, 1] / -points[first, 2]
    assert slope[rows < 5].min() > slope[rows > 50].max()
    frusta = loaded.geometry["cameras"].vertices.reshape(len(scene), -1, 3)
    assert np.linalg.norm(frusta[0], axis=1).min() < 0.02 and frusta[0, :, 2].min() < -0.01


def test_glb_names_the_extra_it_needs(
    tmp_path: Path, scene: Reconstruction, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trimesh", None)
    with pytest.raises(MissingExtraError, match=r"manyview\[mesh\]"):
        export(scene, tmp_path, "glb")


@pytest.mark.parametrize("name", ["ply", "glb"])
def test_a_scene_without_a_single_point_can_be_exported(tmp_path: Path, name: str) -> None:
    scene, _ = room_scene(views=2)
    scene = dataclasses.replace(scene, z_depth=np.full_like(scene.z_depth, np.nan))
    assert export(scene, tmp_path, name)


@pytest.mark.parametrize("compress", [False, True])
def test_npz_holds_everything_under_documented_names(tmp_path: Path, compress: bool) -> None:
    scene, truth = room_scene(TRANSFORMS, NAMES)
    points = scene.world_points
    scene = dataclasses.replace(scene, head_points=points, head_points_conf=scene.depth_conf)
    export(scene, tmp_path, "npz", NpzOptions(compress=compress))
    with np.load(tmp_path / "scene.npz", allow_pickle=False) as file:
        for name in ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf", "head_points"):
            np.testing.assert_array_equal(file[name], getattr(scene, name))
        np.testing.assert_array_equal(file["valid"], scene.valid)
        np.testing.assert_array_equal(file["world_points"], points)
        np.testing.assert_allclose(file["upright_intrinsics"], truth.upright_intrinsics)
        np.testing.assert_array_equal(file["upright_sizes"], [[320, 240], [240, 320], [200, 320], [240, 320]])
        np.testing.assert_allclose(
            file["network_from_upright"] @ file["upright_intrinsics"], file["intrinsics"], atol=1e-9
        )
        assert file["names"].tolist() == NAMES
        header = json.loads(str(file["header"]))
        assert header["settings"] == scene.settings and header["pixel_centres"] == "half"
    export(scene, tmp_path / "small", "npz", NpzOptions(world_points=False))
    with np.load(tmp_path / "small" / "scene.npz") as file:
        assert "world_points" not in file


def test_depth_png_times_its_scale_is_the_depth(tmp_path: Path, scene: Reconstruction) -> None:
    export(scene, tmp_path, "depth")
    header = json.loads((tmp_path / "depth" / "depth.json").read_text())
    deepest = scene.z_depth[scene.valid].max()
    assert header["counts_per_unit"] == pytest.approx(65535 / deepest)
    for index, entry in enumerate(header["views"]):
        assert entry["name"] == NAMES[index]
        picture = Image.open(tmp_path / "depth" / entry["file"])
        assert picture.mode.startswith("I;16")
        values = np.asarray(picture)
        assert values.dtype == np.uint16 and values.shape == (entry["height"], entry["width"]) == (56, 56)
        valid = scene.view_valid(index)
        assert (values[~valid] == 0).all()
        depth = values[valid] / header["counts_per_unit"]
        np.testing.assert_allclose(depth, scene.z_depth[index][valid], atol=0.51 / header["counts_per_unit"])
        np.testing.assert_allclose(entry["intrinsics"], scene.intrinsics[index])


def test_depth_at_original_resolution_lies_on_the_surface(tmp_path: Path) -> None:
    scene, truth = room_scene(TRANSFORMS, NAMES)
    options = DepthOptions(counts_per_unit=1000, original_resolution=True)
    export(scene, tmp_path, "depth", options)
    header = json.loads((tmp_path / "depth" / "depth.json").read_text())
    assert header["counts_per_unit"] == 1000
    for index, entry in enumerate(header["views"]):
        values = np.asarray(Image.open(tmp_path / "depth" / entry["file"])) / 1000
        transform = scene.views[index].transform
        assert values.shape == (transform.upright_height, transform.upright_width)
        np.testing.assert_allclose(entry["intrinsics"], truth.upright_intrinsics[index])
        pixels = pixel_grid(*values.shape).reshape(-1, 2)
        points = truth.surface(index, pixels)
        _, true_z = project(points, truth.cam_from_world[index], truth.upright_intrinsics[index])
        found = values.reshape(-1) > 0
        error = np.abs(values.reshape(-1)[found] / true_z[found] - 1)
        assert np.percentile(error, 80) < 0.03
        if index == 1:  # the crop cut rows off at the top and at the bottom
            assert 0.5 < found.mean() < 0.9 and not found.reshape(values.shape)[[0, -1]].any()
        else:
            assert found.all()


def test_nearest_depth_at_original_resolution_is_the_covering_pixel() -> None:
    depth = np.arange(1, 5, dtype=np.float32).reshape(2, 2)
    cells = [0, 0, 1, 1, 1]
    upright = to_upright(depth, fit_transform((5, 5), (2, 2)))
    np.testing.assert_array_equal(upright, depth[cells][:, cells])


def test_a_scale_that_cannot_hold_the_depth_is_refused(tmp_path: Path, scene: Reconstruction) -> None:
    with pytest.raises(UsageError, match="counts_per_unit"):
        export(scene, tmp_path, "depth", DepthOptions(counts_per_unit=1e6))
    for wrong in (-1.0, 0.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="counts_per_unit"):
            DepthOptions(counts_per_unit=wrong)
    assert list(tmp_path.iterdir()) == []


def test_unsure_pixels_can_be_left_out_of_depth(tmp_path: Path, scene: Reconstruction) -> None:
    export(scene, tmp_path, "depth", DepthOptions(min_conf_percentile=75))
    files = [path for path in (tmp_path / "depth").rglob("*.png")]
    kept = sum(int((np.asarray(Image.open(path)) > 0).sum()) for path in files)
    assert kept == pytest.approx(scene.valid.sum() / 4, abs=2)


def test_depth_names_stay_unique() -> None:
    assert depth_names(["a/1.jpg", "a/1.png", "b.c/2", ".x"]) == [
        "a/1.jpg.png",
        "a/1.png.png",
        "b.c/2.png",
        ".x.png",
    ]


def test_nerfstudio_axes_sizes_and_points(tmp_path: Path) -> None:
    scene, truth = room_scene(TRANSFORMS, NAMES)
    scene = write_sources(scene, truth, tmp_path / "source")
    export(scene, tmp_path / "out", "nerfstudio", NerfstudioOptions(min_conf_percentile=0))
    data = json.loads((tmp_path / "out" / "transforms.json").read_text())
    applied = np.array(data["applied_transform"])
    assert np.linalg.det(applied[:, :3]) == pytest.approx(1.0)
    # World y points down in the scene: up must come out as +z.
    np.testing.assert_allclose(applied[:, :3] @ [0, -1, 0], [0, 0, 1])
    points = trimesh.load(tmp_path / "out" / data["ply_file_path"]).vertices
    cloud = scene.point_cloud(0, drop_edges=0.1)
    np.testing.assert_allclose(points, cloud.points @ applied[:, :3].T, atol=1e-5)
    for index, frame in enumerate(data["frames"]):
        path = tmp_path / "out" / frame["file_path"]
        with Image.open(path) as picture:
            assert picture.size == (frame["w"], frame["h"])
        matrix = truth.upright_intrinsics[index]
        assert [frame["fl_x"], frame["fl_y"], frame["cx"], frame["cy"]] == pytest.approx(
            [matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]]
        )
        # Project by OpenGL rules: camera looks along -z, y up; the image's y axis points down.
        world_from_gl = np.array(frame["transform_matrix"])
        assert np.linalg.det(world_from_gl[:3, :3]) == pytest.approx(1.0)
        own = cloud.view_index == index
        in_gl = (np.linalg.inv(world_from_gl) @ np.column_stack([points[own], np.ones(own.sum())]).T)[:3].T
        assert (in_gl[:, 2] < 0).all()
        x = frame["cx"] + frame["fl_x"] * in_gl[:, 0] / -in_gl[:, 2]
        y = frame["cy"] - frame["fl_y"] * in_gl[:, 1] / -in_gl[:, 2]
        surface = truth.surface(index, np.column_stack([x, y])) @ APPLIED_TRANSFORM[:, :3].T
        np.testing.assert_allclose(surface, points[own], atol=1e-3)
    assert data["frames"][0]["file_path"] == "images/left/1.jpg"


def test_colmap_and_nerfstudio_share_their_images(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap")
    scene, truth = room_scene(TRANSFORMS, NAMES)
    scene = write_sources(scene, truth, tmp_path / "source")
    first = {path for path in export(scene, tmp_path / "out", "colmap") if "images" in path.parts}
    second = {path for path in export(scene, tmp_path / "out", "nerfstudio") if "images" in path.parts}
    assert first == second and len(first) == len(scene)
