"""Depth accuracy up to one scale per scene, and whether confidence ranks the errors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor


@dataclass(frozen=True)
class DepthErrors:
    """`abs_rel` = mean |z - z*| / z*, `delta_125` = percent with max(z/z*, z*/z) < 1.25, after `scale`."""

    abs_rel: float
    delta_125: float
    scale: float


def depth_errors(
    estimate: Float[Tensor, "*shape"], truth: Float[Tensor, "*shape"], valid: Bool[Tensor, "*shape"]
) -> DepthErrors:
    """Compare the z-depths of one scene after one scale for all its views: the median of truth / estimate.

    Only valid pixels count; an estimate that is not finite or not positive there counts as depth zero
    (error 1, outside 1.25). Where nothing is valid there is no error (0) and nothing inside 1.25 (0). Other
    alignments are in `depth_alignment`.
    """
    found, true = estimate[valid].double(), truth[valid].double()
    usable = found.isfinite() & (found > 0)
    if not bool(usable.any()):
        return DepthErrors(1.0 if true.numel() else 0.0, 0.0, 1.0)
    scale = (true[usable] / found[usable]).median()
    scaled = torch.where(usable, found * scale, torch.zeros_like(found))
    ratio = torch.maximum(scaled / true, true / scaled.clamp(min=1e-12))
    return DepthErrors(
        abs_rel=float(((scaled - true).abs() / true).mean()),
        delta_125=100.0 * float((ratio < 1.25).double().mean()),
        scale=float(scale),
    )


@dataclass(frozen=True)
class Sparsification:
    """Mean error of what is left after dropping the least confident part, relative to the error of all.

    `area` lies under that curve: 1 for confidence that knows nothing, `oracle_area` for confidence
    that ranks the errors perfectly; `excess` is their difference (often called AUSE).
    """

    fractions: Float[Tensor, " steps"]
    curve: Float[Tensor, " steps"]
    oracle: Float[Tensor, " steps"]
    area: float
    oracle_area: float

    @property
    def excess(self) -> float:
        return self.area - self.oracle_area


def sparsification(
    errors: Float[Tensor, " pixels"], confidence: Float[Tensor, " pixels"], steps: int = 50
) -> Sparsification:
    """Drop 0, 1/steps, ... of the pixels, least confident first, and integrate the error of the rest.

    Pixels of equal confidence are taken in a fixed shuffled order, so that a constant confidence
    gives an area near one whatever the order of the pixels.
    """
    errors = errors.double()
    shuffled = torch.randperm(errors.numel(), generator=torch.Generator().manual_seed(0))
    errors, confidence = errors[shuffled], confidence.double()[shuffled]
    fractions = torch.arange(steps, dtype=torch.float64) / steps
    kept = ((1 - fractions) * errors.numel()).ceil().long().clamp(min=1)

    def remaining(order: Tensor) -> Tensor:
        running = errors[order].cumsum(0)
        return running[kept - 1] / kept / errors.mean().clamp(min=1e-12)

    curve = remaining(confidence.argsort(descending=True, stable=True))
    oracle = remaining(errors.argsort(stable=True))
    width = fractions[-1]
    return Sparsification(
        fractions,
        curve,
        oracle,
        area=float(torch.trapezoid(curve, fractions) / width),
        oracle_area=float(torch.trapezoid(oracle, fractions) / width),
    )
