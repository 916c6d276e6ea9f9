"""Depth accuracy after one scale, or a scale and a shift, for all views of a scene together.

Sources: MonST3R and pi3 (arXiv 2507.13347, video depth): the scale by Weiszfeld iterations of the sum of
absolute errors, or scale and shift that minimise it. They run Adam for the latter; the same convex
objective is minimised here by reweighted least squares, which needs no step size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float
from torch import Tensor

DepthFit = Literal["none", "median", "scale", "scale-shift"]
DEPTH_FITS: tuple[DepthFit, ...] = get_args(DepthFit)
_FLOOR = 1e-6


@dataclass(frozen=True)
class DepthErrors:
    """Errors of depth * scale + shift.

    `abs_rel` is the mean of |z - z*| / z*, `delta_125` the percent of pixels with max(z/z*, z*/z) < 1.25,
    `rmse` in the unit of the truth, `pixels` the number compared, which weights a sequence in papers that
    pool.
    """

    abs_rel: float
    abs_rel_median: float
    delta_125: float
    rmse: float
    scale: float
    shift: float
    pixels: int


def fit_depth(
    found: Float[Tensor, " n"], truth: Float[Tensor, " n"], how: DepthFit, steps: int = 10
) -> tuple[float, float]:
    """Scale and shift that align positive, finite depths with the truth.

    Args:
        found: Estimated depth.
        truth: Measured depth of the same pixels.
        how: "median", the median of truth / estimate; "scale", the least sum of absolute errors by Weiszfeld
            iterations from the ratio of the means; "scale-shift", the same in two unknowns from least squares
            (constant depth has no scale of its own and gets that of "scale"); or "none".
        steps: Iterations of "scale"; "scale-shift" makes at least 30.

    Returns:
        (scale, shift); the shift is 0 but for "scale-shift", and (1, 0) is for no pixel.

    Raises:
        ValueError: For another `how`.
    """
    if how not in DEPTH_FITS:
        raise ValueError(f"depth is fitted by one of {', '.join(DEPTH_FITS)}, not {how!r}")
    if how == "none" or not len(found):
        return 1.0, 0.0
    found, truth = found.double(), truth.double()
    if how == "median":
        return float((truth / found).median()), 0.0
    scale = truth.mean() / found.mean()
    constant = float(found.std(correction=0)) <= 1e-9 * float(found.mean())
    if how == "scale" or constant:
        for _ in range(steps):
            weight = 1 / (scale * found - truth).abs().clamp(min=_FLOOR)
            scale = (weight * found * truth).sum() / (weight * found.square()).sum()
        return float(scale), 0.0
    weight, shift = torch.ones_like(found), torch.zeros_like(scale)
    for _ in range(max(steps, 30)):
        total = weight.sum()
        mean_found, mean_true = (weight * found).sum() / total, (weight * truth).sum() / total
        off = found - mean_found
        scale = (weight * off * (truth - mean_true)).sum() / (weight * off.square()).sum()
        shift = mean_true - scale * mean_found
        weight = 1 / (scale * found + shift - truth).abs().clamp(min=1e-4 * float(mean_true))
    return float(scale), float(shift)


def depth_errors(
    estimate: Float[Tensor, "*shape"],
    truth: Float[Tensor, "*shape"],
    valid: Bool[Tensor, "*shape"],
    fit: DepthFit = "median",
) -> DepthErrors | None:
    """Compare z-depths where `valid`, after one alignment of all of them.

    Depth that is not finite or not positive is left out of the fit and counts as zero: error one, outside
    1.25. A fitted depth that is not positive is outside 1.25. None where nothing is valid.
    """
    found, true = estimate[valid].double(), truth[valid].double()
    if not true.numel():
        return None
    usable = found.isfinite() & (found > 0)
    scale, shift = fit_depth(found[usable], true[usable], fit)
    fitted = torch.where(usable, found * scale + shift, torch.zeros_like(found))
    relative = (fitted - true).abs() / true
    positive = fitted.clamp(min=1e-12)
    ratio = torch.maximum(positive / true, true / positive)
    return DepthErrors(
        abs_rel=float(relative.mean()),
        abs_rel_median=float(relative.median()),
        delta_125=100.0 * float((ratio < 1.25).double().mean()),
        rmse=float((fitted - true).square().mean().sqrt()),
        scale=scale,
        shift=shift,
        pixels=true.numel(),
    )
