"""Depth accuracy after one scale, or a scale and a shift, for all views of a scene together.

Sources: MonST3R, CUT3R and pi3 (arXiv 2507.13347, video depth): the scale by Weiszfeld iterations of the sum
of absolute errors, or scale and shift after a thousand small steps of Adam, which do not reach its minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

DepthFit = Literal["none", "median", "medians", "median-ratio", "scale", "scale-shift"]
DEPTH_FITS: tuple[DepthFit, ...] = get_args(DepthFit)
_FLOOR = 1e-8
_RATE, _BETAS = 1e-4, (0.9, 0.999)
_SAME_SIGNS = 25
"""Steps of Adam between which the pixels whose error may change its sign are chosen anew."""
_LONGEST = 8.0
"""No step of Adam is longer than so many times its rate: (1 - b1) / sqrt((1 - b2) (1 - b1^2 / b2)) = 7.3."""


@dataclass(frozen=True)
class DepthErrors:
    """Errors of depth * scale + shift.

    `abs_rel` is the mean of |z - z*| / z*, `sq_rel` that of (z - z*)^2 / z*, `shares` the percent of pixels
    with max(z/z*, z*/z) below each bound, `rmse` in the unit of the truth and `log_rmse` that of natural
    logarithms, `pixels` the number compared, which weights a sequence in papers that pool.
    """

    abs_rel: float
    abs_rel_median: float
    sq_rel: float
    shares: dict[float, float]
    rmse: float
    log_rmse: float
    scale: float
    shift: float
    pixels: int

    @property
    def delta_125(self) -> float:
        return self.shares[1.25]


def fit_depth(
    found: Float[Tensor, " n"], truth: Float[Tensor, " n"], how: DepthFit, steps: int = 10
) -> tuple[float, float]:
    """Scale and shift that align positive, finite depths with the truth.

    Args:
        found: Estimated depth.
        truth: Measured depth of the same pixels.
        how: "median", the median of truth / estimate; "medians", the median of the truth by that of the
            estimate (the lower of two middle values); "median-ratio", the same of means of the two middle
            values, plus 1e-8 below (SpatialBench); "scale", the least sum of absolute errors by Weiszfeld
            iterations from the ratio of the means; "scale-shift", where Adam at rate 1e-4, that lowers the
            same sum in two unknowns from the ratio of the medians (the lower of two middle values) and 0,
            stands after at most 1000 steps (constant depth has no scale of its own and gets that of "scale");
            or "none".
        steps: Iterations of "scale".

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
    if how == "medians":
        return float(truth.median() / found.median()), 0.0
    if how == "median":
        return float(np.median((truth / found).numpy())), 0.0
    if how == "median-ratio":
        return float(np.median(truth.numpy()) / (np.median(found.numpy()) + _FLOOR)), 0.0
    constant = float(found.std(correction=0)) <= 1e-9 * float(found.mean())
    if how == "scale-shift" and not constant:
        return _adam(found, truth)
    scale = truth.mean() / found.mean()
    for _ in range(steps):
        weight = 1 / ((scale * found - truth).abs() + _FLOOR)
        scale = (weight * found * truth).sum() / (weight * found.square()).sum()
    return float(scale), 0.0


def _adam(
    found: Float[Tensor, " n"], truth: Float[Tensor, " n"], steps: int = 1000, settled: float = 1e-6
) -> tuple[float, float]:
    """Adam on the sum of |scale * found + shift - truth|; ends where that moves by less than `settled`.

    Of pixels whose error keeps its sign wherever the next steps can lead, sums are enough: in turns of
    `_SAME_SIGNS` steps only the others are looked at.
    """
    at = np.array([float(truth.median() / found.median()), 0.0])
    first, second, before = np.zeros(2), np.zeros(2), math.inf
    reach = _LONGEST * _RATE * _SAME_SIGNS
    for step in range(steps):
        if step % _SAME_SIGNS == 0:
            error = at[0] * found + at[1] - truth
            sure = error.abs() > reach * (found.abs() + 1)
            sign = error[sure].sign()
            slopes = np.array([float(sign @ found[sure]), float(sign.sum())])
            constant = float(sign @ truth[sure])
            open_found, open_truth = found[~sure], truth[~sure]
        error = at[0] * open_found + at[1] - open_truth
        loss = slopes @ at - constant + float(error.abs().sum())
        if abs(before - loss) < settled:
            break
        before, sign = loss, error.sign()
        gradient = slopes + np.array([float(sign @ open_found), float(sign.sum())])
        first = _BETAS[0] * first + (1 - _BETAS[0]) * gradient
        second = _BETAS[1] * second + (1 - _BETAS[1]) * gradient**2
        mean, root = first / (1 - _BETAS[0] ** (step + 1)), np.sqrt(second / (1 - _BETAS[1] ** (step + 1)))
        at = at - _RATE * mean / (root + 1e-8)
    return float(at[0]), float(at[1])


def depth_errors(
    estimate: Float[Tensor, "*shape"],
    truth: Float[Tensor, "*shape"],
    valid: Bool[Tensor, "*shape"],
    fit: DepthFit = "median",
    clip: float = math.inf,
    lower_median: bool = False,
    least: float | None = None,
    shares: tuple[float, ...] = (1.25,),
) -> DepthErrors | None:
    """Compare z-depths where `valid`, after one alignment of all of them.

    Fitted depth counts as at most `clip`. With `lower_median` the lower of two middle values is the median
    (as torch has it), else their mean. Depth that is not finite or not positive is left out of the fit and
    counts as zero: error one, outside every share. A fitted depth that is not positive is outside them too.
    With `least` all that is finite is fitted, and pixels whose fitted depth is not above it do not count.
    None where nothing is valid.
    """
    found, true = estimate[valid].double(), truth[valid].double()
    if not true.numel():
        return None
    usable = found.isfinite() & ((found > 0) | (least is not None))
    scale, shift = fit_depth(found[usable], true[usable], fit)
    fitted = torch.where(usable, found * scale + shift, torch.zeros_like(found)).clamp(max=clip)
    if least is not None:
        counted = fitted > least
        fitted, true = fitted[counted], true[counted]
        if not true.numel():
            return None
    relative = (fitted - true).abs() / true
    positive = fitted.clamp(min=1e-12)
    ratio = torch.maximum(positive / true, true / positive)
    return DepthErrors(
        abs_rel=float(relative.mean()),
        abs_rel_median=float(relative.median() if lower_median else np.median(relative.numpy())),
        sq_rel=float((relative * (fitted - true).abs()).mean()),
        shares={bound: 100.0 * float((ratio < bound).double().mean()) for bound in shares},
        rmse=float((fitted - true).square().mean().sqrt()),
        log_rmse=float((positive / true).log().square().mean().sqrt()),
        scale=scale,
        shift=shift,
        pixels=true.numel(),
    )


def step_difference(
    estimate: Float[Tensor, "frames height width"],
    truth: Float[Tensor, "frames height width"],
    valid: Bool[Tensor, "frames height width"],
) -> float | None:
    """Mean over neighbouring frames of | mean |z' - z| - mean |z*' - z*| |, in pixels valid in both frames.

    Estimates that are not finite are left out; None without a pixel in any two neighbours.
    """
    own, true = (depth.diff(dim=0).abs().double() for depth in (estimate, truth))
    both = valid[1:] & valid[:-1] & own.isfinite()
    errors = [float((a[m].mean() - b[m].mean()).abs()) for a, b, m in zip(own, true, both) if m.any()]
    return sum(errors) / len(errors) if errors else None
