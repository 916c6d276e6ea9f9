"""FastVGGT: one merging of queries, keys and values for all heads in every global layer."""

from __future__ import annotations

import dataclasses

from ...errors import UsageError
from ..global_attention import GlobalAttention
from ..token_merge import SequenceMerge


@dataclasses.dataclass(frozen=True)
class FastVggt:
    """FastVGGT (arXiv 2509.02560), training-free: see `SequenceMerge`. Layers before `start` stay dense."""

    ratio: float = 0.9
    protect: float = 0.1
    window: tuple[int, int] = (2, 2)
    start: int = 0
    seed: int = 33
    sheared: bool = False
    half_scores: bool = False

    def __post_init__(self) -> None:
        self._merge()

    def _merge(self) -> SequenceMerge:
        return SequenceMerge(self.ratio, self.protect, self.window, self.seed, self.sheared, self.half_scores)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        if not 0 <= self.start <= depth:
            raise UsageError(f"fastvggt: start={self.start} is not a number of layers from 0 to {depth}")
        merge = self._merge()
        return (GlobalAttention(),) * self.start + (GlobalAttention(merge, merge),) * (depth - self.start)
