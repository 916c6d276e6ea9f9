"""Keys that are some of the tokens themselves: a mask of the sequence chosen by the layout alone."""

from __future__ import annotations

import dataclasses

from jaxtyping import Bool, Int
from torch import Tensor

from ..distributed.frames import FrameSplit
from .index_cache import kept_for_later
from .layout import TokenLayout
from .protocols import Exchange, Keys, KeySet, LayerInput


class SubsampledKeys(Keys):
    """Keys and values of the tokens in `kept(layout)`.

    With `project_all` the dropped tokens are projected too, for fills that need them; `keys_before_rope` also
    gives the keys without positions.
    """

    single_tokens = True

    def kept(self, layout: TokenLayout) -> Bool[Tensor, " tokens"]:
        """Which tokens of the sequence are keys."""
        raise NotImplementedError

    @property
    def period(self) -> int | None:
        """Of so many consecutive frames any have as many keys, the reference frame aside, which is whole.

        None: that is not so. It spares the mask of a long sequence where keys are only counted.
        """
        return None

    def select(self, layer: LayerInput) -> KeySet:
        split = None if layer.run.ranks is None else layer.run.ranks.split
        mask, index, sizes = layer.on_device(_own_keys, self, layer.whole, split)
        dropped = layer.whole.tokens - sum(sizes)
        if not self.project_all:
            rotation = None if layer.rotation is None else layer.rotation.select(index)
            k, v = layer.attention.keys_values(layer.tokens[:, index], rotation)
            return KeySet(k, v, kept=mask, dropped=dropped, sizes=sizes)
        k, v = layer.keys_values()
        plain = layer.keys_values(positions=False)[0] if self.keys_before_rope else None
        return KeySet(k[:, :, index], v[:, :, index], None, mask, k, v, plain, dropped=dropped, sizes=sizes)

    def token_index(self, layer: LayerInput) -> Int[Tensor, "batch keys"]:
        return layer.on_device(_own_keys, self, layer.whole, None)[1].expand(len(layer.tokens), -1)

    def count(self, layout: TokenLayout) -> float:
        if self.period is None:
            return float(len(_own_keys(self, layout, None)[1]))
        some = dataclasses.replace(layout, frames=self.period, reference_frame=None)
        each = self.kept(some).unflatten(0, (self.period, -1)).sum(1).tolist()
        times, rest = divmod(layout.frames, self.period)
        keys = times * sum(each) + sum(each[:rest])
        if layout.reference_frame is not None:
            keys += layout.tokens_per_frame - each[layout.reference_frame % self.period]
        return float(keys)

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.project_all else self.count(layout)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(tokens=self.count(whole))


@kept_for_later
def _own_keys(
    keys: SubsampledKeys, whole: TokenLayout, split: FrameSplit | None
) -> tuple[Bool[Tensor, " tokens"], Int[Tensor, " kept"], tuple[int, ...]]:
    """Which of a rank's tokens (None: of all) are keys, as a mask and as places; how many each rank has."""
    mask = keys.kept(whole)
    sizes: tuple[int, ...] = (int(mask.sum()),)
    if split is not None:
        parts = mask.split([count * whole.tokens_per_frame for count in split.counts])
        mask, sizes = parts[split.rank].clone(), tuple(int(part.sum()) for part in parts)
    return mask, mask.nonzero()[:, 0], sizes
