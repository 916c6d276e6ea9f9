"""Random keys in every global layer: the control that other choices are measured against."""

from __future__ import annotations

import dataclasses

from ..dense import NoFill
from ..diagonal_mean import DiagonalMean
from ..global_attention import GlobalAttention
from ..random_keys import RandomKeys


@dataclasses.dataclass(frozen=True)
class Random:
    """A random share `keep` of the patches of each frame as keys (see `RandomKeys`); no paper's method.

    `fill` adds AVGGT's diagonal and mean of what was dropped.
    """

    keep: float = 0.25
    seed: int = 0
    fill: bool = False

    def __post_init__(self) -> None:
        RandomKeys(self.keep)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        """One answer per global layer."""
        keys = RandomKeys(self.keep, self.seed, project_all=self.fill)
        return (GlobalAttention(keys=keys, fill=DiagonalMean() if self.fill else NoFill()),) * depth
