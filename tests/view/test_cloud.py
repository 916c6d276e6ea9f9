"""What the confidence slider keeps, thinning, filters and sizes of points."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from manyview.errors import UsageError
from manyview.view.cloud import (
    LEVELS,
    best_of_each_cell,
    frame_cloud,
    level_of,
    level_thresholds,
    prefixes,
    scene_cloud,
)
from manyview.view.filters import PointFilter, neighbour_distance, point_width
from manyview.view.loading import Loading, with_sky_shown
from manyview.view.options import ViewOptions

from .scenes import wall_scene

MANY = 10**6


@pytest.mark.parametrize("percentile", [0, 2, 50, 98])
def test_slider_keeps_what_the_exports_keep(percentile):
    scene = wall_scene()
    cloud = scene_cloud(scene, level_thresholds(scene), MANY)
    expected = scene.point_cloud(percentile)
    kept = cloud.points[: cloud.count_at(percentile)]
    assert 0 < len(kept) < len(cloud) or percentile == 0
    assert sorted(map(tuple, kept)) == sorted(map(tuple, expected.points))


def test_levels_go_down():
    scene = wall_scene()
    cloud = scene_cloud(scene, level_thresholds(scene), MANY)
    assert len(cloud) == 3 * 12 * 16 and (np.diff(cloud.level) <= 0).all()
    for level in (0, 17, LEVELS - 1):
        assert cloud.count_at(2 * level) == (cloud.level >= level).sum()
    assert level_of(99.9) == LEVELS - 1


def test_equal_confidence_is_never_hidden():
    scene = wall_scene()
    scene = dataclasses.replace(scene, depth_conf=np.ones_like(scene.depth_conf))
    cloud = scene_cloud(scene, level_thresholds(scene), MANY)
    assert cloud.count_at(98) == len(cloud) == len(scene.point_cloud(98.0))


def test_overlap_is_thinned_to_the_most_confident():
    # The same camera many times: pixels coincide, and the last view is the most confident.
    scene = wall_scene(views=4)
    same = np.repeat(scene.cam_from_world[:1], 4, axis=0)
    scene = dataclasses.replace(scene, cam_from_world=same)
    cloud = scene_cloud(scene, level_thresholds(scene), 12 * 16 + 5)
    assert len(cloud) == 12 * 16
    assert (cloud.view == 3).all()


def test_never_more_points_than_asked_for():
    scene = wall_scene(views=20)
    assert len(scene_cloud(scene, level_thresholds(scene), 100)) == 100
    assert len(frame_cloud(scene, 0, level_thresholds(scene), at_most=7)) == 7


def test_points_know_their_views():
    scene = wall_scene(views=4)
    cloud = scene_cloud(scene, level_thresholds(scene), MANY, views=[0, 2])
    ordered, before = prefixes(cloud, 4)
    assert before.tolist() == [0, 192, 192, 384, 384]
    theirs = ordered.points[before[2] : before[3]]
    assert sorted(map(tuple, theirs)) == sorted(map(tuple, scene.view_points(2).reshape(-1, 3)))


def test_invalid_pixels_are_left_out():
    scene = wall_scene()
    z_depth = scene.z_depth.copy()
    z_depth[0] = np.nan
    z_depth[1, 0, :4] = [np.inf, -1, 0, np.nan]
    scene = dataclasses.replace(scene, z_depth=z_depth)
    thresholds = level_thresholds(scene)
    assert len(frame_cloud(scene, 0, thresholds)) == 0
    assert len(scene_cloud(scene, thresholds, MANY)) == 2 * 12 * 16 - 4


def test_edges_go_from_the_jump_that_is_chosen_on():
    scene = wall_scene()
    z_depth = scene.z_depth.copy()
    z_depth[:, :, 8:] *= 5
    scene = dataclasses.replace(scene, z_depth=z_depth)
    cloud = frame_cloud(scene, 0, level_thresholds(scene))
    for jump in (0.5, 3.5):
        assert len(PointFilter(depth_jump=jump).kept(cloud, 0)) == 12 * (16 - 2)
    assert len(PointFilter(depth_jump=4.5).kept(cloud, 0)) == 12 * 16
    left = scene.point_cloud(30.0, drop_edges=0.5)
    whole = scene_cloud(scene, level_thresholds(scene), MANY)
    assert len(PointFilter(depth_jump=0.5).kept(whole, 30)) == len(left)


def test_backgrounds():
    scene = wall_scene(views=1)
    images = np.full_like(scene.images, 128)
    images[0, 0, :6] = [[0, 0, 0], [5, 5, 5], [5, 5, 6], [255, 255, 255], [241, 241, 241], [255, 255, 240]]
    cloud = frame_cloud(dataclasses.replace(scene, images=images), 0, level_thresholds(scene))
    assert [
        12 * 16 - len(PointFilter(black=black, white=white).kept(cloud, 0))
        for black, white in ((True, False), (False, True), (True, True))
    ] == [2, 2, 4]


def test_the_sky_can_be_shown():
    scene = wall_scene(views=2)
    sky = np.zeros(scene.z_depth.shape, bool)
    sky[:, :3] = True
    masked = sky.copy()
    masked[:, 5] = True
    scene = dataclasses.replace(scene, sky=sky, masked=masked)
    hidden, shown = (Loading(one, MANY).detail.cloud for one in (scene, with_sky_shown(scene)))
    assert len(shown) - len(hidden) == 2 * 3 * 16 and len(hidden) == 2 * 8 * 16
    assert with_sky_shown(wall_scene()).sky is None


def test_points_are_as_wide_as_pixels_lie_apart_or_as_thinning_left_them():
    scene = wall_scene(views=1, height=120, width=160)
    depth = np.full_like(scene.z_depth, 2.0)
    scene = dataclasses.replace(scene, z_depth=depth)
    cloud = frame_cloud(scene, 0, level_thresholds(scene))
    spacing = 2.0 / 160  # at a focal length of 160 pixels
    assert neighbour_distance(cloud.points) == pytest.approx(spacing, rel=1e-3)
    assert point_width(scene, cloud.points) == pytest.approx(1.5 * spacing, rel=1e-3)
    few = frame_cloud(scene, 0, level_thresholds(scene), at_most=120 * 160 // 50)
    # Random points, n on an area a: half the root of a / n to the nearest.
    assert 0.8 < neighbour_distance(few.points) / (0.5 * spacing * 50**0.5) < 1.25
    assert point_width(scene, few.points[:0]) == pytest.approx(spacing)


def test_neighbours_of_many_points_are_estimated_from_some():
    grid = np.stack(np.meshgrid(np.arange(400), np.arange(400), [0]), -1).reshape(-1, 3).astype(np.float32)
    assert 0.4 < neighbour_distance(grid) < 1.1
    assert neighbour_distance(grid[:1]) == 0.0


def test_many_views_are_read_on_a_thread():
    scene = wall_scene(views=300)
    loading = Loading(scene, 2000)
    first = loading.detail
    assert not first.whole and len(first.cloud) == 2000
    assert len(np.unique(first.cloud.view)) <= 128
    heard, done = [], []
    loading.go_on(lambda done, total: heard.append((done, total)), lambda: done.append(loading.detail))
    for _ in range(500):
        if done:
            break
        loading._stopped.wait(0.02)
    assert done[0].whole and len(done[0].cloud) == 2000 and heard[0] == (0, 300)
    assert len(np.unique(done[0].cloud.view)) > 200


def test_reading_on_can_be_stopped():
    scene = wall_scene(views=5)
    asked = []
    stopped = scene_cloud(
        scene, level_thresholds(scene), MANY, progress=lambda *at: asked.append(at) or len(asked) < 3
    )
    assert stopped is None and asked == [(0, 5), (1, 5), (2, 5)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000}, {"max_points": 0}, {"max_images": -1}, {"conf_percentile": 100.0},
        {"drop_edges": 0.0}, {"drop_edges": float("nan")},
    ],
)  # fmt: skip
def test_options_check_themselves(wrong):
    with pytest.raises(UsageError):
        ViewOptions(**wrong)


def test_a_long_walk_keeps_its_points() -> None:
    """A strip a thousand times as long as wide: cells of a box round it would leave next to nothing."""
    strip = np.random.default_rng(0).random((200_000, 3)) * (1000.0, 1.0, 0.0)
    kept = best_of_each_cell(strip, 50_000)
    assert 10_000 < len(kept) < 50_000
    square = strip * (0.001, 1.0, 0.0)
    assert len(best_of_each_cell(square, 50_000)) > 10_000
