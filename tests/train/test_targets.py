"""Normalised truth: unit, frame and consistency of cameras, depth, points and directions."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.geometry.cameras import pose_encoding_to_cameras
from manyview.geometry.unproject import world_points
from manyview.synthetic import SceneBatch, SceneOptions, render_scenes
from manyview.train.targets import make_targets, scene_scale


@pytest.fixture(scope="module")
def batch() -> SceneBatch:
    return render_scenes([3, 4], 3, 24, 32, SceneOptions())


def test_first_camera_is_the_world_and_mean_distance_the_unit(batch: SceneBatch) -> None:
    targets = make_targets(batch, 8)
    first = torch.tensor([0.0, 0, 0, 0, 0, 0, 1.0])
    torch.testing.assert_close(targets.pose_encoding[:, 0, :7], first.expand(2, 7), atol=1e-4, rtol=0)
    for scene in range(2):
        distances = targets.points[scene][batch.valid[scene]].norm(dim=-1)
        assert float(distances.mean()) == pytest.approx(1.0, abs=1e-4)


def test_the_median_distance_may_be_the_unit_and_far_points_do_not_move_it(batch: SceneBatch) -> None:
    targets = make_targets(batch, 8, unit="median")
    for scene in range(2):
        distances = targets.points[scene][batch.valid[scene]].norm(dim=-1)
        assert float(distances.median()) == pytest.approx(1.0, abs=1e-5)
    points, valid = torch.rand(1, 2, 3, 4, 3), torch.rand(1, 2, 3, 4) > 0.3
    far = points.clone()
    farthest = points.norm(dim=-1).where(valid, torch.tensor(0.0)).flatten().argmax()
    far.view(-1, 3)[farthest] *= 100
    torch.testing.assert_close(scene_scale(far, valid, "median"), scene_scale(points, valid, "median"))
    assert scene_scale(far, valid) > 2 * scene_scale(points, valid)
    assert scene_scale(points, torch.zeros_like(valid), "median") == pytest.approx(1e-6)


def test_depth_unprojected_with_the_encoded_cameras_is_the_point_map(batch: SceneBatch) -> None:
    targets = make_targets(batch, 8)
    cam_from_world, intrinsics = pose_encoding_to_cameras(targets.pose_encoding, 24, 32)
    points = world_points(targets.z_depth, cam_from_world, intrinsics)
    torch.testing.assert_close(points[targets.valid], targets.points[targets.valid], atol=2e-4, rtol=1e-3)


def test_targets_do_not_depend_on_the_unit_of_length(batch: SceneBatch) -> None:
    cameras = torch.cat([batch.cam_from_world[..., :3], 3 * batch.cam_from_world[..., 3:]], -1)
    larger = dataclasses.replace(
        batch, z_depth=3 * batch.z_depth, world_points=3 * batch.world_points, cam_from_world=cameras
    )
    a, b = make_targets(batch, 8), make_targets(larger, 8)
    torch.testing.assert_close(b.scale, 3 * a.scale)
    torch.testing.assert_close(b.points, a.points, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(b.pose_encoding, a.pose_encoding, atol=1e-5, rtol=1e-4)


def test_direction_points_from_the_first_camera_to_the_patch(batch: SceneBatch) -> None:
    targets = make_targets(batch, 8)
    assert targets.direction.shape == (2, 3, 12, 3)
    torch.testing.assert_close(targets.direction.norm(dim=-1), targets.direction_valid.float())
    # Patch 5 is row 1, column 1 of a grid of 4 columns; its centre pixel is (12, 12).
    point = targets.points[0, 2, 12, 12]
    torch.testing.assert_close(targets.direction[0, 2, 5], point / point.norm())


def test_matches_of_the_first_frame_are_the_patches_themselves(batch: SceneBatch) -> None:
    matches = make_targets(batch, 8, matches=True).matches
    assert matches is not None
    best = matches.index.gather(-1, matches.weight.argmax(-1, keepdim=True))[..., 0]
    own = best[:, 1, :, 1][matches.visible[:, 1, :, 1]]
    assert torch.equal(own, torch.arange(12).expand(2, 12)[matches.visible[:, 1, :, 1]])
    assert 0.1 < float(matches.visible[:, 1, :, 0].float().mean()) < 1.0


def test_far_points_and_sky_are_left_out() -> None:
    outdoor = render_scenes([1, 2], 2, 24, 32, SceneOptions(kind="outdoor"))
    near, everything = make_targets(outdoor, 8, far=1.5), make_targets(outdoor, 8, far=1e9)
    assert bool((~outdoor.valid).any())
    assert torch.equal(everything.valid, outdoor.valid)
    assert int(near.valid.sum()) < int(everything.valid.sum())
    assert float(near.points[near.valid].norm(dim=-1).max()) < 1.5
