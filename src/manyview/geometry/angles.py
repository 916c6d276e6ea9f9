"""Angles between rotations and between directions, in degrees, accurate near both ends."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

UNDEFINED_DEG = 1e6
"""Error of a pair whose relative translation has no direction (zero or not finite)."""


def rotation_angle_deg(rotation: Float[Tensor, "*batch 3 3"]) -> Float[Tensor, "*batch"]:
    """Angle of a rotation matrix in degrees, in [0, 180], accurate near both ends."""
    sine = torch.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        dim=-1,
    ).norm(dim=-1)
    cosine = rotation.diagonal(dim1=-2, dim2=-1).sum(-1) - 1
    return torch.rad2deg(torch.atan2(sine, cosine))


def direction_angle_deg(
    a: Float[Tensor, "*batch 3"], b: Float[Tensor, "*batch 3"], signed: bool = False
) -> Float[Tensor, "*batch"]:
    """Angle between two directions of any length, in degrees.

    Args:
        a: Vectors.
        b: Vectors, broadcast against `a`.
        signed: True for the angle between directions in [0, 180]; False for that between lines in [0, 90],
            which ignores the sign of a direction as VGGT's protocol does.

    Returns:
        The angles, `UNDEFINED_DEG` where a vector is zero (shorter than 1e-9) or not finite.
    """
    cosine = (a * b).sum(-1)
    angle = torch.rad2deg(
        torch.atan2(torch.linalg.cross(a, b).norm(dim=-1), cosine if signed else cosine.abs())
    )
    smallest = torch.minimum(a.norm(dim=-1), b.norm(dim=-1))
    defined = angle.isfinite() & (smallest > 1e-9)
    return torch.where(defined, angle, torch.full_like(angle, UNDEFINED_DEG))
