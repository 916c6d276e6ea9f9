"""Keys that are some of the tokens themselves: a mask of the sequence chosen by the layout alone."""

from __future__ import annotations

from jaxtyping import Bool, Int
from torch import Tensor

from .index_cache import kept_for_later
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
        mask, index = layer.on_device(_mask_and_index, self, layer.layout)
        dropped = layer.layout.tokens - len(index)
        if not self.project_all:
            rotation = None if layer.rotation is None else layer.rotation.select(index)
            return KeySet(
                *layer.attention.keys_values(layer.tokens[:, index], rotation), kept=mask, dropped=dropped
            )
        k, v = layer.keys_values()
        plain = layer.keys_values(positions=False)[0] if self.keys_before_rope else None
        return KeySet(k[:, :, index], v[:, :, index], None, mask, k, v, plain, dropped=dropped)

    def token_index(self, layer: LayerInput) -> Int[Tensor, "batch keys"]:
        return layer.on_device(_mask_and_index, self, layer.layout)[1].expand(len(layer.tokens), -1)

    def count(self, layout: TokenLayout) -> float:
        return float(len(_mask_and_index(self, layout)[1]))

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.project_all else self.count(layout)


@kept_for_later
def _mask_and_index(
    keys: SubsampledKeys, layout: TokenLayout
) -> tuple[Bool[Tensor, " tokens"], Int[Tensor, " kept"]]:
    """Which tokens are keys, as a mask and as places."""
    mask = keys.kept(layout)
    return mask, mask.nonzero()[:, 0]
