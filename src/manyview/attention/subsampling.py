"""Keys that are some of the tokens themselves: a mask of the sequence chosen by the layout alone."""

from __future__ import annotations

from jaxtyping import Bool, Int
from torch import Tensor

from .layout import TokenLayout
from .protocols import Keys, KeySet, LayerInput


class SubsampledKeys(Keys):
    """Keys and values of the tokens in `kept(layout)`.

    With `project_all` the dropped tokens are projected too, for fills that need them; `keys_before_rope` also
    gives the keys without positions.
    """

    single_tokens = True

    def kept(self, layout: TokenLayout) -> Bool[Tensor, " tokens"]:
        """Which tokens of the sequence are keys."""
        raise NotImplementedError

    def select(self, layer: LayerInput) -> KeySet:
        mask = self.kept(layer.layout).to(layer.tokens.device)
        index = mask.nonzero()[:, 0]
        if not self.project_all:
            rotation = None if layer.rotation is None else layer.rotation.select(index)
            return KeySet(*layer.attention.keys_values(layer.tokens[:, index], rotation), kept=mask)
        k, v = layer.keys_values()
        plain = layer.keys_values(positions=False)[0] if self.keys_before_rope else None
        return KeySet(k[:, :, index], v[:, :, index], None, mask, k, v, plain)

    def token_index(self, layer: LayerInput) -> Int[Tensor, "batch keys"]:
        return self.kept(layer.layout).nonzero()[:, 0].expand(len(layer.tokens), -1)

    def count(self, layout: TokenLayout) -> float:
        return float(self.kept(layout).sum())

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.project_all else self.count(layout)
