"""Relative-pose errors and their area, against hand-computed cases and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from manyview.evaluate.metrics.pose import (
    UNDEFINED_DEG,
    auc,
    direction_angle_deg,
    pair_errors,
    rotation_angle_deg,
)


def cameras(seed: int, views: int) -> torch.Tensor:
    rotation = Rotation.random(views, rng=np.random.default_rng(seed)).as_matrix()
    centres = np.random.default_rng(seed + 1).normal(size=(views, 3, 1))
    return torch.from_numpy(np.concatenate([rotation, centres], -1))


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_rotation_angle_is_scipys(seed: int) -> None:
    rotation = Rotation.random(rng=np.random.default_rng(seed))
    angle = rotation_angle_deg(torch.from_numpy(rotation.as_matrix()))
    assert float(angle) == pytest.approx(math.degrees(rotation.magnitude()), abs=1e-9)


@pytest.mark.parametrize("degrees", [0.0, 1e-6, 0.5, 90.0, 179.999, 180.0])
def test_rotation_angle_is_exact_at_both_ends(degrees: float) -> None:
    rotation = Rotation.from_rotvec([math.radians(degrees), 0, 0]).as_matrix()
    assert float(rotation_angle_deg(torch.from_numpy(rotation))) == pytest.approx(degrees, abs=1e-9)


def test_direction_ignores_sign_and_marks_undefined() -> None:
    a = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0], [0.0, 0, 0], [float("nan"), 0, 0]])
    b = torch.tensor([[-2.0, 0, 0], [0.0, 3.0, 0], [1.0, 1.0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    expected = torch.tensor([0.0, 90.0, 45.0, UNDEFINED_DEG, UNDEFINED_DEG])
    torch.testing.assert_close(direction_angle_deg(a, b), expected)


def test_pair_errors_against_scipy_loop() -> None:
    estimate, truth = cameras(0, 5), cameras(7, 5)
    found = pair_errors(estimate, truth)
    rotations, directions = [], []
    for i in range(5):
        for j in range(i + 1, 5):
            relative = []
            for poses in (estimate, truth):
                full = np.tile(np.eye(4), (5, 1, 1))
                full[:, :3] = poses.numpy()
                relative.append(full[i] @ np.linalg.inv(full[j]))
            between = Rotation.from_matrix(relative[1][:3, :3].T @ relative[0][:3, :3])
            rotations.append(math.degrees(between.magnitude()))
            t, u = (r[:3, 3] / np.linalg.norm(r[:3, 3]) for r in relative)
            directions.append(math.degrees(math.acos(min(1.0, abs(float(t @ u))))))
    np.testing.assert_allclose(found.rotation_deg.numpy(), rotations, atol=1e-6)
    np.testing.assert_allclose(found.translation_deg.numpy(), directions, atol=1e-5)
    assert torch.equal(found.worst_deg, torch.maximum(found.rotation_deg, found.translation_deg))


def test_pair_errors_do_not_see_the_world_frame_or_scale() -> None:
    truth = cameras(3, 4)
    moved = truth.clone()
    turn = torch.from_numpy(Rotation.random(rng=np.random.default_rng(5)).as_matrix())
    shift = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    moved[..., 3:] = 2.5 * (truth[..., :3] @ shift + truth[..., 3:])
    moved[..., :3] = truth[..., :3] @ turn
    found = pair_errors(moved, truth)
    assert float(found.worst_deg.max()) < 1e-5


def test_identical_cameras_have_no_direction_and_nan_counts_as_wrong() -> None:
    truth = cameras(1, 3)
    same = torch.eye(3, 4, dtype=torch.float64).expand(3, 3, 4)
    assert bool((pair_errors(same, truth).translation_deg == UNDEFINED_DEG).all())
    broken = truth.clone()
    broken[0] = float("nan")
    found = pair_errors(broken, truth)
    assert found.rotation_deg[:2].tolist() == [UNDEFINED_DEG] * 2
    assert float(found.worst_deg[2]) < 1e-5
    assert auc(found.worst_deg, 30) == pytest.approx(100 / 3)


def test_scenes_are_compared_separately() -> None:
    estimate = torch.stack([cameras(0, 3), cameras(1, 3)])
    truth = torch.stack([cameras(2, 3), cameras(3, 3)])
    joint = pair_errors(estimate, truth)
    apart = [pair_errors(e, t).worst_deg for e, t in zip(estimate, truth)]
    torch.testing.assert_close(joint.worst_deg, torch.cat(apart))


def test_auc_by_hand() -> None:
    # Bins [0,1) [1,2) ... [4,5]: recall after each is 1/4, 1/4, 2/4, 2/4, 3/4; the fourth error is outside.
    errors = torch.tensor([0.3, 2.5, 5.0, 5.1])
    assert auc(errors, 5) == pytest.approx(100 * (0.25 + 0.25 + 0.5 + 0.5 + 0.75) / 5)


def test_auc_is_numpys_histogram() -> None:
    errors = np.random.default_rng(0).exponential(12.0, 500)
    for threshold in (5, 15, 30):
        counts, _ = np.histogram(errors, bins=np.arange(threshold + 1))
        expected = np.cumsum(counts / len(errors)).mean() * 100
        assert auc(torch.from_numpy(errors), threshold) == pytest.approx(expected)


def test_auc_limits() -> None:
    assert auc(torch.zeros(4), 5) == 100.0
    assert auc(torch.full((4,), 1e6), 30) == 0.0
    assert auc(torch.zeros(0), 5) == 0.0
