"""Least-squares similarity between two point sets (Umeyama, 1991)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def umeyama(
    source: Float[Tensor, "n 3"], target: Float[Tensor, "n 3"], with_scale: bool = True
) -> tuple[Float[Tensor, ""], Float[Tensor, "3 3"], Float[Tensor, " 3"]]:
    """Similarity that minimises sum |target - (scale * rotation @ source + translation)|² (eqs. 40-43).

    Args:
        source: Points to move.
        target: The point that belongs to each of them, in any unit of length.
        with_scale: False for a rigid transform, scale 1.

    Returns:
        (scale, rotation, translation), computed in float64.

    Raises:
        ValueError: Shapes differ, or there are fewer than three points, too few for a rotation.
    """
    if source.shape != target.shape or source.shape[0] < 3:
        raise ValueError(
            f"alignment needs at least 3 matching points, got {tuple(source.shape)} and {tuple(target.shape)}"
        )
    source, target = source.double(), target.double()
    source_mean, target_mean = source.mean(0), target.mean(0)
    source_c, target_c = source - source_mean, target - target_mean
    u, singular, vt = torch.linalg.svd(target_c.T @ source_c / len(source))
    sign = torch.ones(3, dtype=torch.float64, device=source.device)
    if torch.det(u) * torch.det(vt) < 0:
        sign[2] = -1.0
    rotation = u @ torch.diag(sign) @ vt
    variance = (source_c**2).sum() / len(source)
    scale = (singular * sign).sum() / variance if with_scale else source.new_ones(())
    return scale, rotation, target_mean - scale * (rotation @ source_mean)
