"""Flights along the cameras of a scene."""

from __future__ import annotations

import numpy as np
import pytest

from manyview.errors import UsageError
from manyview.geometry.unproject_np import camera_centres, invert_rigid
from manyview.view.path import smooth_path


def circle(views: int, seed: int | None = None) -> np.ndarray:
    """cam_from_world of cameras on the unit circle of the ground that look at its centre; y is down."""
    angles = np.linspace(0, 1.5 * np.pi, views)
    if seed is not None:
        angles = angles + np.random.default_rng(seed).normal(0, 0.02, views)
    ahead = -np.stack([np.cos(angles), 0 * angles, np.sin(angles)], axis=1)
    down = np.broadcast_to([0.0, 1.0, 0.0], ahead.shape)
    rotation = np.stack([np.cross(down, ahead), down, ahead], axis=2)
    return invert_rigid(np.concatenate([rotation, -ahead[:, :, None]], axis=2))


def test_without_smoothing_the_flight_passes_through_the_cameras():
    cameras = circle(9)
    path = smooth_path(cameras, 9, smoothing=0)
    np.testing.assert_allclose(path, cameras, atol=2e-3)  # 4096 samples of a way of 4.7
    np.testing.assert_allclose(path[[0, -1]], cameras[[0, -1]], atol=1e-12)


def test_a_smoothed_circle_stays_one_and_keeps_its_pace():
    path = smooth_path(circle(60, seed=0), 200)
    rotation = path[:, :, :3]
    identity = np.broadcast_to(np.eye(3), rotation.shape)
    np.testing.assert_allclose(rotation @ rotation.swapaxes(1, 2), identity, atol=1e-9)
    assert (np.linalg.det(rotation) > 0).all()
    centres = camera_centres(path)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1.0, atol=0.02)
    np.testing.assert_allclose(path[:, 2, :3], -centres, atol=0.04)  # they look at the middle
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)[10:-10]
    assert steps.max() < 1.3 * steps.min()


def test_smoothing_takes_the_shaking_out():
    shaking = circle(60)
    shaking[:, 1, 3] += np.random.default_rng(0).normal(0, 0.05, 60)
    shake = [np.abs(np.diff(camera_centres(smooth_path(shaking, 60, by))[:, 1], n=2)).mean() for by in (0, 2)]
    assert shake[1] < 0.1 * shake[0]


def test_the_pace_does_not_depend_on_how_close_cameras_are():
    cameras = circle(101)
    # Every fifth camera of the second half: its chords are 0.7 % short of the circle.
    uneven = np.concatenate([cameras[:50], cameras[50::5]])
    np.testing.assert_allclose(smooth_path(uneven, 20, 0), smooth_path(cameras, 20, 0), atol=0.02)


@pytest.mark.parametrize("turn", [np.diag([-1.0, 1.0, -1.0]), np.eye(3)])
def test_half_turns_on_the_spot_and_cameras_that_stand_still(turn):
    cameras = np.zeros((2, 3, 4))
    cameras[:, :, :3] = np.eye(3), turn
    path = smooth_path(cameras, 5)
    np.testing.assert_allclose(np.linalg.det(path[:, :, :3]), 1, atol=1e-9)
    np.testing.assert_allclose(path[:, :, 3], 0, atol=1e-12)


def test_a_single_camera_stays():
    np.testing.assert_allclose(smooth_path(circle(1), 3), np.repeat(circle(1), 3, axis=0), atol=1e-12)
    with pytest.raises(UsageError):
        smooth_path(circle(3), 0)
