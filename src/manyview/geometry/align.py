"""Least-squares similarity between two point sets (Umeyama, 1991)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_SAMPLED_FROM = 10  # views from which on single bad predictions are left out
_SAMPLES = 10
_SEED = 42
_INLIER = 3.0


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


def centre_scale(
    given: Float[Tensor, "views 3"], predicted: Float[Tensor, "views 3"], otherwise: float = 1.0
) -> Float[Tensor, ""]:
    """By how much `predicted` centres are farther apart than `given` ones, in float64.

    The scale of the least-squares similarity (Umeyama, 1991), which centres on a line have too; of two views
    the ratio of distances. From ten views on it is that of the views within three times the median error of
    the best of ten similarities, each fitted to half of the views (seed 42); `otherwise` where either set of
    centres is in one place.
    """
    given, predicted = given.double(), predicted.double()
    spread_given, spread_predicted = (torch.linalg.norm(x - x.mean(0)) for x in (given, predicted))
    if not all(bool(x > 1e-9) and bool(x.isfinite()) for x in (spread_given, spread_predicted)):
        return given.new_tensor(otherwise)
    ratio: Tensor = spread_predicted / spread_given
    if len(given) < 3:
        return ratio
    if len(given) >= _SAMPLED_FROM:
        chosen = _inliers(given, predicted)
        given, predicted = given[chosen], predicted[chosen]
    scale = umeyama(given, predicted)[0]
    return scale if bool(scale > 0) else ratio


def _inliers(given: Tensor, predicted: Tensor) -> Tensor:
    """Views near their place under the best of some similarities."""
    generator = torch.Generator().manual_seed(_SEED)
    best: Tensor | None = None
    for _ in range(_SAMPLES):
        some = torch.randperm(len(given), generator=generator)[: len(given) // 2].to(given.device)
        scale, rotation, translation = umeyama(given[some], predicted[some])
        error = (predicted - (scale * given @ rotation.T + translation)).norm(dim=-1)
        if best is None or bool(error.median() < best.median()):
            best = error
    assert best is not None
    return best <= _INLIER * best.median() + 1e-12
