"""VGGT's training losses: cameras, confidence-weighted depth and points, directions.

Source: VGGT (arXiv 2503.11651), section 3.3. Everything is in units of the scene scale (see `targets`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from ..geometry.cameras import rotation_from_quat_xyzw


def masked_mean(values: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Mean over the entries of `mask`; zero if there is none."""
    weight = mask.to(values.dtype)
    return (values * weight).sum() / weight.sum().clamp(min=1.0)


def huber(error: Float[Tensor, "*shape"], delta: float = 0.02) -> Float[Tensor, "*shape"]:
    """Absolute error, rounded off to a parabola below `delta`; its slope is at most one."""
    size = error.abs()
    return torch.where(size < delta, 0.5 * size * size / delta, size - 0.5 * delta)


def camera_loss(
    iterations: Sequence[Float[Tensor, "batch views 9"]],
    truth: Float[Tensor, "batch views 9"],
    decay: float = 0.6,
    delta: float = 0.02,
) -> Float[Tensor, ""]:
    """Huber loss on translation, quaternion (xyzw, w >= 0) and field of view (rad) of every refinement step.

    The last of n iterations weighs 1, the one before it `decay`, and so on; the weights are divided by
    their sum. The field of view counts half.
    """
    scale = truth.new_tensor([1.0] * 7 + [0.5] * 2)
    total, weights = truth.new_zeros(()), 0.0
    for index, estimate in enumerate(iterations):
        weight = decay ** (len(iterations) - 1 - index)
        total = total + weight * (huber(estimate.to(truth.dtype) - truth, delta) * scale).mean()
        weights += weight
    return total / weights


def relative_pose_loss(
    estimate: Float[Tensor, "batch views 9"],
    truth: Float[Tensor, "batch views 9"],
    rounding: float = 0.01,
    short: float = 0.05,
) -> Float[Tensor, ""]:
    """Rotation error plus direction error of the translation between all pairs of views, about radians.

    This is what relative-pose AUC measures, where `camera_loss` measures each camera against the first.
    Errors are rounded off below `rounding`; pairs closer than about `short` scene scales weigh less in the
    direction, which nothing fixes there.
    """
    (turn, shift), (true_turn, true_shift) = (_relative(x.to(truth.dtype)) for x in (estimate, truth))
    pairs = ~torch.eye(truth.shape[1], dtype=torch.bool, device=truth.device)

    def rounded(squared: Tensor) -> Tensor:
        return (squared + rounding**2).sqrt() - rounding

    rotation = rounded((turn - true_turn).square().sum((-1, -2)) / 2)
    length = true_shift.norm(dim=-1)
    apart = F.normalize(shift, dim=-1, eps=short / 2) - true_shift / length[..., None].clamp(min=1e-6)
    weight = length / (length + short)
    direction = rounded(apart.square().sum(-1)) * weight
    return rotation[:, pairs].mean() + direction[:, pairs].sum() / weight[:, pairs].sum().clamp(min=1e-6)


def _relative(encoding: Float[Tensor, "batch views 9"]) -> tuple[Tensor, Tensor]:
    """Rotations [B, V, V, 3, 3] and translations [B, V, V, 3] from view i to view j."""
    turn = rotation_from_quat_xyzw(encoding[..., 3:7])
    shift = encoding[..., :3]
    relative = torch.einsum("bjac,bidc->bijad", turn, turn)
    return relative, shift[:, None] - torch.einsum("bijad,bid->bija", relative, shift)


def dense_loss(
    estimate: Float[Tensor, "batch views height width dim"],
    confidence: Float[Tensor, "batch views height width"] | None,
    truth: Float[Tensor, "batch views height width dim"],
    valid: Bool[Tensor, "batch views height width"],
    alpha: float = 0.0,
    gradient: float = 1.0,
) -> Float[Tensor, ""]:
    """VGGT's loss of a depth map (dim 1) or a point map (dim 3): c|e| + gradient * c|∇e| - alpha log c.

    `valid` leaves out pixels without ground truth. With `alpha` zero the confidence is not used and every
    valid pixel weighs one.
    """
    error = estimate.to(truth.dtype) - truth
    # Invalid pixels may hold NaN, and NaN times zero is NaN.
    error = torch.where(valid[..., None], error, error.new_zeros(()))
    weight = torch.ones_like(error[..., 0])
    if alpha > 0 and confidence is not None:
        weight = confidence.to(truth.dtype)
    # The small constant keeps the gradient of the norm finite where the error is zero.
    loss = masked_mean(weight * (error.square().sum(-1) + 1e-8).sqrt(), valid)
    if gradient > 0:
        down = (error[:, :, 1:] - error[:, :, :-1]).abs().sum(-1)
        right = (error[:, :, :, 1:] - error[:, :, :, :-1]).abs().sum(-1)
        both_down = valid[:, :, 1:] & valid[:, :, :-1]
        both_right = valid[:, :, :, 1:] & valid[:, :, :, :-1]
        slope = masked_mean(weight[:, :, 1:] * down, both_down)
        slope = slope + masked_mean(weight[:, :, :, 1:] * right, both_right)
        loss = loss + gradient * slope
    if alpha > 0 and confidence is not None:
        loss = loss - alpha * masked_mean(weight.log(), valid)
    return loss


def direction_loss(
    estimate: Float[Tensor, "batch views patches 3"],
    truth: Float[Tensor, "batch views patches 3"],
    valid: Bool[Tensor, "batch views patches"],
) -> Float[Tensor, ""]:
    """Mean distance between the predicted vector and the unit direction, smoothed below 0.05."""
    squared = (estimate.to(truth.dtype) - truth).square().sum(-1)
    return masked_mean((squared + 0.05**2).sqrt() - 0.05, valid)
