"""HTTM: head-wise temporal token merging in every global layer."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..block_merge import Blocks, MergedKeys, MergedQueries
from ..global_attention import GlobalAttention


@dataclasses.dataclass(frozen=True)
class Httm:
    """HTTM (arXiv 2511.21317), training-free: see `MergedQueries`, `MergedKeys` and `Blocks`.

    `q`, `kv`: shares that are merged away; `outliers` of the queries leave again. `anchor`: tokens of the
    reference frame join nobody. The paper does not say which tokens of a block others join: `into`.
    """

    q: float = 0.9
    kv: float = 0.7
    outliers: float = 0.1
    space: int = 128
    time: int = 30
    into: Literal["even", "random"] = "even"
    anchor: bool = False
    count_bias: float = 0.0

    def __post_init__(self) -> None:
        self._layer()

    def _layer(self) -> GlobalAttention:
        blocks = Blocks(self.space, self.time, self.into, self.anchor)
        return GlobalAttention(
            MergedQueries(self.q, self.outliers, blocks), MergedKeys(self.kv, self.count_bias, blocks)
        )

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        """One answer per global layer."""
        return (self._layer(),) * depth
