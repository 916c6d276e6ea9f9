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

from .depth import sparsification

_NO_ERROR = 1e-9
"""Mean error, as a share of depth, below which there is nothing to rank."""


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

    relative: Ranking
    absolute: Ranking


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
    return Ranking(
        own.area,
        sparsification(errors, chance).area,
        sparsification(errors, inverse_depth).area,
        own.oracle_area,
    )
