"""What the confidence slider keeps, and thinning."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from manyview.errors import UsageError
from manyview.view.cloud import LEVELS, frame_cloud, level_of, level_thresholds, scene_cloud
from manyview.view.options import ViewOptions

from .scenes import wall_scene


@pytest.mark.parametrize("percentile", [0, 2, 50, 98])
def test_slider_keeps_what_the_exports_keep(percentile):
    scene = wall_scene()
    cloud = scene_cloud(scene, level_thresholds(scene), ViewOptions())
    expected = scene.point_cloud(percentile)
    kept = cloud.points[: cloud.count_at(percentile)]
    assert 0 < len(kept) < len(cloud) or percentile == 0
    assert sorted(map(tuple, kept)) == sorted(map(tuple, expected.points))


def test_levels_partition_the_cloud():
    scene = wall_scene()
    cloud = scene_cloud(scene, level_thresholds(scene), ViewOptions())
    slices = [cloud.slice_of(level) for level in range(LEVELS)]
    assert sum(part.stop - part.start for part in slices) == len(cloud) == 3 * 12 * 16
    for level in (0, 17, LEVELS - 1):
        assert (cloud.level[slices[level]] == level).all()
        assert cloud.count_at(2 * level) == slices[level].stop
    assert level_of(99.9) == LEVELS - 1


def test_equal_confidence_is_never_hidden():
    scene = wall_scene()
    scene = dataclasses.replace(scene, depth_conf=np.ones_like(scene.depth_conf))
    cloud = scene_cloud(scene, level_thresholds(scene), ViewOptions())
    assert cloud.count_at(98) == len(cloud) == len(scene.point_cloud(98.0))


def test_overlap_is_thinned_to_the_most_confident():
    # The same camera many times: pixels coincide, and the last view is the most confident.
    scene = wall_scene(views=4)
    same = np.repeat(scene.cam_from_world[:1], 4, axis=0)
    scene = dataclasses.replace(scene, cam_from_world=same)
    thresholds = level_thresholds(scene)
    cloud = scene_cloud(scene, thresholds, ViewOptions(max_points=12 * 16 + 5))
    assert len(cloud) == 12 * 16
    best = frame_cloud(scene, 3, thresholds)
    assert sorted(map(tuple, cloud.points)) == sorted(map(tuple, best.points))
    assert (cloud.level >= best.level.min()).all()


def test_never_more_points_than_asked_for():
    scene = wall_scene(views=20)
    assert len(scene_cloud(scene, level_thresholds(scene), ViewOptions(max_points=100))) == 100
    assert len(frame_cloud(scene, 0, level_thresholds(scene), at_most=7)) == 7


def test_invalid_pixels_are_left_out():
    scene = wall_scene()
    z_depth = scene.z_depth.copy()
    z_depth[0] = np.nan
    z_depth[1, 0, :4] = [np.inf, -1, 0, np.nan]
    scene = dataclasses.replace(scene, z_depth=z_depth)
    thresholds = level_thresholds(scene)
    assert len(frame_cloud(scene, 0, thresholds)) == 0
    assert len(scene_cloud(scene, thresholds, ViewOptions())) == 2 * 12 * 16 - 4


def test_edges_can_be_dropped():
    scene = wall_scene()
    z_depth = scene.z_depth.copy()
    z_depth[:, :, 8:] *= 5
    scene = dataclasses.replace(scene, z_depth=z_depth)
    kept = frame_cloud(scene, 0, level_thresholds(scene), drop_edges=0.5)
    assert len(kept) == 12 * (16 - 2)


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
