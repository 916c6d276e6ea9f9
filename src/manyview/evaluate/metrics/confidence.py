"""Does confidence rank depth errors? Two kinds of error, beside rankings by chance and by depth alone.

VGGT's confidence c is trained by c|e| - alpha log c on the error e in scene units, so the best it can be
is alpha / |e|: it ranks absolute errors. Those grow with depth, so 1/z alone ranks them well; relative errors
|e| / z grow much less with depth or fall, and a confidence that is right about |e| may be no better than
chance about them. Confidence that knows more than depth has an area below that of 1/z in absolute errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

_NO_ERROR = 1e-9
"""Mean error, as a share of depth, below which there is nothing to rank."""


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
    remaining = ((1 - fractions) * errors.numel()).ceil().long().clamp(min=1)

    def mean_error(order: Tensor) -> Tensor:
        running = errors[order].cumsum(0)
        return running[remaining - 1] / remaining / errors.mean().clamp(min=1e-12)

    curve = mean_error(confidence.argsort(descending=True, stable=True))
    oracle = mean_error(errors.argsort(stable=True))
    areas = (float(torch.trapezoid(line, fractions) / fractions[-1]) for line in (curve, oracle))
    return Sparsification(fractions, curve, oracle, *areas)


@dataclass(frozen=True)
class Ranking:
    """Areas under sparsification curves: 1 knows nothing, smaller is better.

    `area` of the confidence, `random` of a random order (1 up to noise), `inverse_depth` of 1/z as
    confidence, `oracle` of the errors themselves, the least there is. All 1 where there is no error.
    """

    area: float = 1.0
    random: float = 1.0
    inverse_depth: float = 1.0
    oracle: float = 1.0

    @property
    def excess(self) -> float:
        """The area between the curves of confidence and oracle (AUSE): 0 is perfect."""
        return self.area - self.oracle


@dataclass(frozen=True)
class ConfidenceRankings:
    """Of relative errors |z - z*| / z* and of absolute errors |z - z*|."""

    relative: Ranking = Ranking()
    absolute: Ranking = Ranking()


def confidence_rankings(
    scaled: Float[Tensor, " pixels"],
    truth: Float[Tensor, " pixels"],
    confidence: Float[Tensor, " pixels"],
) -> ConfidenceRankings:
    """Rank the errors of one scene's valid pixels by confidence; `scaled` is z-depth in the truth's scale.

    Depth that is not finite or not positive counts as zero, confidence that is not finite as the least.
    """
    scaled, truth, confidence = scaled.double(), truth.double(), confidence.double()
    usable = scaled.isfinite() & (scaled > 0)
    depth = torch.where(usable, scaled, 0.0)
    finite = confidence.isfinite()
    least = confidence[finite].min() - 1 if bool(finite.any()) else confidence.new_zeros(())
    confidence = torch.where(finite, confidence, least)
    absolute = (depth - truth).abs()
    inverse_depth = 1 / depth.clamp(min=1e-12)
    return ConfidenceRankings(
        _ranked(absolute / truth, confidence, inverse_depth, 1.0),
        _ranked(absolute, confidence, inverse_depth, float(truth.mean())),
    )


def _ranked(errors: Tensor, confidence: Tensor, inverse_depth: Tensor, unit: float) -> Ranking:
    if not len(errors) or float(errors.mean()) <= _NO_ERROR * unit:
        return Ranking()
    # A fixed seed of its own: sparsification shuffles with another one.
    chance = torch.rand(len(errors), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    own = sparsification(errors, confidence)
    random, inverse = (sparsification(errors, order).area for order in (chance, inverse_depth))
    return Ranking(own.area, random, inverse, own.oracle_area)
