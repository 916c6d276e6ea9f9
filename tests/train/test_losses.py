"""The losses on cases worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from manyview.geometry.cameras import quat_xyzw_from_rotation, rotation_from_quat_xyzw
from manyview.train.losses import (
    camera_loss,
    dense_loss,
    direction_loss,
    huber,
    masked_mean,
    relative_pose_loss,
)


def test_huber_is_a_parabola_then_a_line() -> None:
    errors = torch.tensor([0.0, 0.05, -0.1, 1.0, -3.0])
    torch.testing.assert_close(huber(errors, 0.1), torch.tensor([0.0, 0.0125, 0.05, 0.95, 2.95]))


def test_masked_mean_of_nothing_is_zero() -> None:
    values = torch.tensor([1.0, 3.0])
    assert float(masked_mean(values, torch.tensor([True, False]))) == 1.0
    assert float(masked_mean(values, torch.tensor([False, False]))) == 0.0


def test_camera_loss_weighs_iterations_and_halves_the_field_of_view() -> None:
    truth = torch.zeros(1, 1, 9)
    translation, fov = truth.clone(), truth.clone()
    translation[..., 0] = 1.0  # Huber 0.99
    fov[..., 8] = 1.0
    assert float(camera_loss([translation], truth)) == pytest.approx(0.99 / 9)
    assert float(camera_loss([fov], truth)) == pytest.approx(0.99 / 18)
    both = camera_loss([translation, truth], truth, decay=0.5)
    assert float(both) == pytest.approx(0.99 / 9 * 0.5 / 1.5)


def test_dense_loss_by_hand() -> None:
    truth = torch.ones(1, 1, 2, 2, 1)
    estimate = truth.clone()
    estimate[0, 0, 0, 0, 0] = 1.4  # one error of 0.4, two slopes of 0.4: one of two down, one of two right
    valid = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    assert float(dense_loss(estimate, None, truth, valid, gradient=0.0)) == pytest.approx(0.1, abs=2e-4)
    assert float(dense_loss(estimate, None, truth, valid)) == pytest.approx(0.1 + 0.2 + 0.2, abs=2e-4)


def test_confidence_weighs_errors_and_is_rewarded() -> None:
    truth = torch.ones(1, 1, 2, 2, 1)
    estimate = truth + 0.4
    valid = torch.ones(1, 1, 2, 2, dtype=torch.bool)
    confidence = torch.full((1, 1, 2, 2), 3.0)
    loss = dense_loss(estimate, confidence, truth, valid, alpha=0.2, gradient=0.0)
    assert float(loss) == pytest.approx(3 * 0.4 - 0.2 * math.log(3), abs=1e-6)
    # The best confidence for an error e is alpha / e.
    confidence = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    dense_loss(estimate, confidence, truth, valid, alpha=0.2, gradient=0.0).backward()
    assert float(confidence.grad.abs().max()) < 1e-6


def test_confidence_is_left_alone_without_alpha() -> None:
    truth = torch.ones(1, 1, 2, 2, 3)
    confidence = torch.full((1, 1, 2, 2), 3.0, requires_grad=True)
    estimate = (truth + 0.1).requires_grad_()
    dense_loss(estimate, confidence, truth, torch.ones(1, 1, 2, 2, dtype=torch.bool)).backward()
    assert confidence.grad is None and estimate.grad is not None


def test_invalid_pixels_never_reach_the_gradient() -> None:
    truth = torch.ones(1, 1, 3, 3, 1)
    truth[0, 0, 1, 1] = float("nan")
    valid = truth[..., 0].isfinite()
    estimate = torch.rand(1, 1, 3, 3, 1, requires_grad=True)
    loss = dense_loss(estimate, None, truth, valid)
    loss.backward()
    assert math.isfinite(loss.item()) and bool(estimate.grad.isfinite().all())
    assert float(estimate.grad[0, 0, 1, 1]) == 0.0
    assert float(estimate.grad.abs().sum()) > 0


def test_a_perfect_estimate_has_no_loss_and_a_finite_gradient() -> None:
    truth = torch.rand(1, 2, 4, 4, 3)
    estimate = truth.clone().requires_grad_()
    loss = dense_loss(estimate, None, truth, torch.ones(1, 2, 4, 4, dtype=torch.bool))
    loss.backward()
    assert loss.item() < 1e-3 and bool(estimate.grad.isfinite().all())


def test_direction_loss_by_hand() -> None:
    truth = torch.tensor([[[[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]]])
    estimate = torch.tensor([[[[0.0, 0.0, 0.0], [9.0, 9.0, 9.0]]]])
    loss = direction_loss(estimate, truth, torch.tensor([[[True, False]]]))
    assert float(loss) == pytest.approx(math.sqrt(1.0025) - 0.05)


def _encodings(views: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    quat = torch.randn(2, views, 4, generator=generator, dtype=torch.float64)
    shift = torch.randn(2, views, 3, generator=generator, dtype=torch.float64)
    return torch.cat([shift, quat / quat.norm(dim=-1, keepdim=True), torch.ones(2, views, 2).double()], -1)


def test_relative_poses_do_not_depend_on_the_world_frame_or_the_unit_of_length() -> None:
    truth = _encodings(4, 0)
    cameras = torch.cat([rotation_from_quat_xyzw(truth[..., 3:7]), truth[..., :3, None]], -1)
    turn = rotation_from_quat_xyzw(_encodings(1, 1)[:, :1, 3:7])
    moved = torch.cat(
        [cameras[..., :3] @ turn, cameras[..., 3:] * 2 + cameras[..., :3] @ torch.randn(2, 1, 3, 1).double()],
        -1,
    )
    estimate = torch.cat([moved[..., 3], quat_xyzw_from_rotation(moved[..., :3]), truth[..., 7:]], -1)
    assert float(relative_pose_loss(estimate, truth)) == pytest.approx(0.0, abs=1e-9)


def test_relative_pose_loss_is_the_angle_in_radians() -> None:
    truth = torch.zeros(1, 2, 9)
    truth[..., 6], truth[0, 1, 0] = 1.0, 1.0
    turned = truth.clone()  # about the baseline, which leaves the direction alone
    turned[0, 1, 3], turned[0, 1, 6] = math.sin(0.1), math.cos(0.1)
    aside = truth.clone()
    aside[0, 1, :2] = 3 * torch.tensor([math.cos(0.2), math.sin(0.2)])
    for estimate in (turned, aside):
        loss = relative_pose_loss(estimate, truth, rounding=1e-6)
        assert float(loss) == pytest.approx(2 * math.sin(0.1), rel=1e-4)


def test_relative_pose_loss_has_finite_gradients_where_cameras_coincide() -> None:
    truth = _encodings(3, 0)
    truth[:, 1] = truth[:, 0]
    estimate = truth.clone().requires_grad_()
    relative_pose_loss(estimate, truth).backward()
    assert estimate.grad is not None and estimate.grad.isfinite().all()
