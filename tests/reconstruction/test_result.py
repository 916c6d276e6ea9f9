"""The result type: what it refuses, what it computes, and its two pixel-centre conventions."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest

from manyview.errors import ManyViewError, UsageError
from manyview.geometry.unproject_np import camera_centres, pixel_grid, project
from manyview.reconstruction.result.arrays import hash_settings
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.points import depth_edges
from manyview.reconstruction.result.result import Reconstruction
from tests.analytic_scene import cast, crop_transform, fit_transform, pad_transform, room_scene

TRANSFORMS = [
    fit_transform((320, 240), (56, 56)),
    crop_transform((240, 320), (56, 56)),
    pad_transform((200, 320), (56, 56)),
    fit_transform((320, 240), (56, 56), orientation=6),
]


def test_half_projects_a_points_own_pixel_to_its_centre() -> None:
    scene, _ = room_scene(TRANSFORMS)
    for index in range(len(scene)):
        points = scene.view_points(index).reshape(1, -1, 3)
        pixels, z = project(points, scene.cam_from_world[index][None], scene.intrinsics[index][None])
        valid = scene.view_valid(index).reshape(-1)
        np.testing.assert_allclose(pixels[0][valid], pixel_grid(56, 56).reshape(-1, 2)[valid], atol=2e-4)
        np.testing.assert_allclose(z[0][valid], scene.z_depth[index].reshape(-1)[valid], rtol=1e-5)


def test_integer_is_half_a_pixel_off_as_upstream() -> None:
    scene, _ = room_scene(TRANSFORMS, pixel_centres="integer")
    pixels, _ = project(scene.world_points[0].reshape(-1, 3), scene.cam_from_world[0], scene.intrinsics[0])
    np.testing.assert_allclose(pixels, pixel_grid(56, 56).reshape(-1, 2) - 0.5, atol=2e-4)


def test_half_points_lie_on_the_true_surface_and_integer_points_do_not() -> None:
    half, _ = room_scene()
    integer = dataclasses.replace(half, pixel_centres="integer")
    errors = {}
    for scene in (half, integer):
        points = scene.view_points(0).reshape(-1, 3)
        # Where the second camera sees the point, its exact depth there must agree (or it is hidden).
        pixels, z = project(points, scene.cam_from_world[1], scene.intrinsics[1])
        true_z, _ = cast(scene.cam_from_world[1], scene.intrinsics[1], pixels)
        errors[scene.pixel_centres] = np.median(np.abs(true_z - z) / z)
    assert errors["half"] < 1e-6
    assert errors["integer"] > 1e-3


def test_world_points_of_one_view_equal_those_of_all() -> None:
    scene, _ = room_scene()
    np.testing.assert_array_equal(scene.world_points[2], scene.view_points(2))


def test_upright_intrinsics_undo_every_transform() -> None:
    scene, truth = room_scene(TRANSFORMS)
    np.testing.assert_allclose(scene.upright_intrinsics, truth.upright_intrinsics, rtol=1e-12)


def test_valid_leaves_out_padding_and_bad_depth() -> None:
    scene, _ = room_scene(TRANSFORMS)
    depth = scene.z_depth.copy()
    depth[0, :3, 0] = np.nan, np.inf, -1.0
    scene = dataclasses.replace(scene, z_depth=depth)
    assert not scene.valid[0, :3, 0].any() and scene.valid[0, 3:].all()
    np.testing.assert_array_equal(scene.valid[2], TRANSFORMS[2].content_mask())
    assert 0 < scene.valid[2].sum() < scene.valid[2].size


def test_sky_is_stored_and_never_valid(tmp_path: Path) -> None:
    scene, _ = room_scene(TRANSFORMS)
    sky = np.zeros(scene.z_depth.shape, dtype=bool)
    sky[1, :20] = True
    with_sky = dataclasses.replace(scene, sky=sky)
    assert not with_sky.valid[1, :20].any() and with_sky.valid[1, 20:].any()
    assert len(with_sky.point_cloud(0)) == len(scene.point_cloud(0)) - scene.valid[1, :20].sum()
    loaded = load_reconstruction(with_sky.save(tmp_path / "result"))
    np.testing.assert_array_equal(loaded.sky, sky)
    with pytest.raises(ValueError, match="sky"):
        dataclasses.replace(scene, sky=sky[:, :-1])


def test_arrays_are_read_only_and_the_callers_are_not_touched() -> None:
    scene, _ = room_scene()
    mine = scene.z_depth.copy()
    made = dataclasses.replace(scene, z_depth=mine)
    with pytest.raises(ValueError, match="read-only"):
        made.z_depth[0, 0, 0] = 1.0
    mine[0, 0, 0] = 5.0
    assert mine.flags.writeable


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("images", np.zeros((6, 42, 56, 3), np.float32), "images .*uint8"),
        ("cam_from_world", np.zeros((6, 4, 4)), r"cam_from_world .*float64 \[6, 3, 4\]"),
        ("intrinsics", np.zeros((6, 3, 3), np.float32), "intrinsics .*float64"),
        ("z_depth", np.zeros((6, 56, 42), np.float32), r"z_depth .*float32 \[6, 42, 56\]"),
        ("depth_conf", None, "depth_conf .*float32"),
        ("head_points", np.zeros((6, 42, 56, 3), np.float32), "head_points_conf"),
        ("views", (), "6 images .*0 view"),
        ("pixel_centres", "corner", "pixel_centres"),
        ("settings", {"path": object()}, "settings, timings"),
        ("timings_s", {"forward": float("nan")}, "settings, timings"),
    ],
)
def test_wrong_fields_are_refused(field: str, value: object, named: str) -> None:
    scene, _ = room_scene()
    with pytest.raises(ValueError, match=named):
        dataclasses.replace(scene, **{field: value})


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda c, k: c.__setitem__((3, 0, 3), np.nan), "not finite"),
        (lambda c, k: k.__setitem__((3, 0, 2), np.inf), "not finite"),
        (lambda c, k: c.__setitem__((3, 0, 0), 2.0), "rotation"),
        (lambda c, k: c.__setitem__((3, slice(None), slice(0, 3)), -c[3, :, :3]), "rotation"),
        (lambda c, k: k.__setitem__((3, 1, 1), 0.0), "focal length"),
        (lambda c, k: k.__setitem__((3, 0, 1), 0.1), "intrinsics"),
    ],
)
def test_bad_cameras_are_refused_and_the_view_is_named(change, named: str) -> None:  # type: ignore[no-untyped-def]
    scene, _ = room_scene()
    cameras, intrinsics = scene.cam_from_world.copy(), scene.intrinsics.copy()
    change(cameras, intrinsics)
    with pytest.raises(ManyViewError, match=rf"view 4 of 6, 'view_3.png', .*{named}"):
        dataclasses.replace(scene, cam_from_world=cameras, intrinsics=intrinsics)


@pytest.mark.parametrize(
    "name", ["/etc/x.png", "../x.png", "a/../../x.png", "", ".", "a//b", "a/./b", "a\0b", "\udcff.png"]
)
def test_names_that_would_leave_the_export_folder_are_refused(name: str) -> None:
    scene, _ = room_scene()
    view = dataclasses.replace(scene.views[0], name=name)
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        dataclasses.replace(scene, views=(view, *scene.views[1:]))


@pytest.mark.parametrize(
    "name", ["1:30.jpg", "T:x.jpg", "back\\slash.jpg", " /x.jpg", "nul.txt", "\x1b[2J.jpg"]
)
def test_names_that_posix_allows_are_taken(name: str) -> None:
    scene, _ = room_scene()
    view = dataclasses.replace(scene.views[0], name=name)
    assert dataclasses.replace(scene, views=(view, *scene.views[1:])).names[0] == name


def test_names_must_be_unique_and_sizes_must_fit() -> None:
    scene, _ = room_scene()
    with pytest.raises(ValueError, match=r"view_1\.png"):
        dataclasses.replace(scene, views=(scene.views[1], *scene.views[1:]))
    view = dataclasses.replace(scene.views[0], transform=TRANSFORMS[0])
    with pytest.raises(ValueError, match="56x56"):
        dataclasses.replace(scene, views=(view, *scene.views[1:]))


def test_settings_hash_ignores_order_and_sees_every_value() -> None:
    assert hash_settings({"a": 1, "b": [2]}) == hash_settings({"b": [2], "a": 1})
    assert hash_settings({"a": 1}) != hash_settings({"a": 2})
    assert len(hash_settings({})) == 16


def test_world_from_cam_holds_the_centres() -> None:
    scene, _ = room_scene()
    np.testing.assert_allclose(scene.world_from_cam[:, :, 3], camera_centres(scene.cam_from_world))


def test_point_cloud_keeps_the_confident_share() -> None:
    scene, _ = room_scene(TRANSFORMS)
    valid = int(scene.valid.sum())
    assert len(scene.point_cloud(0)) == valid
    cloud = scene.point_cloud(75)
    assert len(cloud) == pytest.approx(valid / 4, abs=2)
    assert cloud.confidence.min() >= np.percentile(scene.depth_conf[scene.valid], 75) - 1e-3
    row = np.flatnonzero(cloud.view_index == 1)[0]
    distance = np.abs(scene.view_points(1) - cloud.points[row]).sum(-1)
    y, x = np.unravel_index(np.argmin(distance), distance.shape)
    assert distance[y, x] == 0 and (scene.images[1, y, x] == cloud.colours[row]).all()
    assert scene.depth_conf[1, y, x] == cloud.confidence[row]


def test_point_cloud_with_a_limit_is_a_reproducible_subset() -> None:
    scene, _ = room_scene()
    cloud = scene.point_cloud(0, 500)
    assert len(cloud) == 500 and len(np.unique(cloud.view_index)) == len(scene)
    np.testing.assert_array_equal(cloud.points, scene.point_cloud(0, 500).points)
    assert len(np.unique(cloud.points, axis=0)) == 500
    assert not np.array_equal(cloud.points, scene.point_cloud(0, 500, seed=1).points)


def test_point_cloud_from_the_point_head() -> None:
    scene, _ = room_scene()
    points = scene.world_points + 1
    conf = scene.depth_conf[::-1].copy()
    scene = dataclasses.replace(scene, head_points=points, head_points_conf=conf)
    cloud = scene.point_cloud(50, source="head")
    expected = points[conf >= np.percentile(conf, 50, method="lower")]
    np.testing.assert_array_equal(cloud.points, expected)


def test_point_cloud_without_a_valid_pixel_is_empty() -> None:
    scene, _ = room_scene()
    scene = dataclasses.replace(scene, z_depth=np.full_like(scene.z_depth, np.nan))
    assert len(scene.point_cloud()) == 0
    assert scene.confidence_threshold(50) == float("inf")


def test_impossible_point_options_are_usage_errors() -> None:
    scene, _ = room_scene()
    with pytest.raises(UsageError, match="percentile"):
        scene.point_cloud(100)
    with pytest.raises(UsageError, match="max_points"):
        scene.point_cloud(50, 0)
    with pytest.raises(UsageError, match="point"):
        scene.point_cloud(source="head")
    with pytest.raises(UsageError, match="'points'"):
        scene.point_cloud(source="points")


def test_edges_are_where_depth_jumps() -> None:
    depth = np.ones((4, 6), np.float32)
    depth[:, 3:] = 2.0
    edges = depth_edges(depth, 0.1)
    assert edges[:, 2:4].all() and not edges[:, :2].any() and not edges[:, 4:].any()
    scene, _ = room_scene()
    assert 0 < len(scene.point_cloud(0, drop_edges=0.1)) < len(scene.point_cloud(0))


def test_a_reconstruction_has_a_length_and_names() -> None:
    scene: Reconstruction = room_scene()[0]
    assert len(scene) == 6 and scene.names[0] == "view_0.png" and (scene.height, scene.width) == (42, 56)


def test_totals_do_not_count_parts_twice() -> None:
    scene, _ = room_scene()
    assert scene.total_time_s == 2.75 and scene.peak_memory_bytes == 96_000_000
    timings = {"read": 1.0, "forward": 2.0, "forward: encoder": 1.5, "forward: heads": 0.5}
    memory = {"expected peak": 70, "measured peak": 60}
    scene = dataclasses.replace(scene, timings_s=timings, memory_bytes=memory)
    assert scene.total_time_s == 3.0 and scene.peak_memory_bytes == 60
    assert dataclasses.replace(scene, memory_bytes={}).peak_memory_bytes == 0
