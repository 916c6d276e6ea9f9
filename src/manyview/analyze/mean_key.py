"""One mean key and value for all queries."""

from __future__ import annotations

import dataclasses

from ..attention.layout import TokenLayout
from ..attention.protocols import Keys, KeySet, LayerInput


@dataclasses.dataclass(frozen=True)
class MeanKey(Keys):
    """The mean of all keys and of all values (AVGGT's "G2M", arXiv 2512.02541): every query gets the same."""

    def select(self, layer: LayerInput) -> KeySet:
        k, v = layer.keys_values()
        return KeySet(k.mean(2, keepdim=True), v.mean(2, keepdim=True))

    def count(self, layout: TokenLayout) -> float:
        return 1
