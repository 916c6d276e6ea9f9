"""Keys and values of a chunk, and of descriptors of earlier chunks (FlashVGGT, section 3)."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from ..attention.descriptors import log_counts, patch_places, shortened, tokens_per_short_frame
from ..attention.layout import TokenLayout
from ..attention.methods.flashvggt import DescriptorKeys
from ..attention.protocols import Keys, KeySet, LayerInput

Pair = tuple[Tensor, Tensor]


@dataclasses.dataclass(eq=False)
class LayerMemory:
    """Projected keys and values of earlier frames in one global layer, after RoPE.

    `whole` are all patches of frame 0, each [1, heads, patches, dim]. `short` are the special tokens and
    descriptors of the frames in memory, each [1, heads, frames, tokens, dim]. A pass adds `new_whole` and
    `new_short`, which `commit` moves into memory.
    """

    whole: Pair | None = None
    short: Pair | None = None
    new_whole: Pair | None = None
    new_short: Pair | None = None

    def commit(self, kept: Tensor) -> None:
        """Keep the frames of these indices [n] into those in memory followed by the new ones."""
        assert self.new_short is not None
        past = self.short
        if past is None:
            self.whole, self.short = self.new_whole, self.new_short
        else:
            self.short = _concatenated(past, self.new_short)
        if len(kept) < self.short[0].shape[2]:
            index = kept.to(self.short[0].device)
            self.short = self.short[0][:, :, index], self.short[1][:, :, index]
        self.discard_new()

    def discard_new(self) -> None:
        """Drop what a pass added."""
        self.new_whole = self.new_short = None

    def tensors(self) -> dict[str, Tensor]:
        """The memory, by name."""
        pairs = {"whole": self.whole, "short": self.short}
        return {
            f"{name}.{part}": tensor
            for name, pair in pairs.items()
            if pair is not None
            for part, tensor in zip(("k", "v"), pair, strict=True)
        }


@dataclasses.dataclass(frozen=True)
class RecursiveKeys(Keys):
    """All patches of frame 0, the descriptors in memory, and those of the chunk itself.

    `seen` are the frames of the chunk that it attends to (None: all). With an empty memory this equals
    `DescriptorKeys` with the whole reference frame and no keyframes.
    """

    descriptors: DescriptorKeys
    memory: LayerMemory = dataclasses.field(compare=False, repr=False)
    seen: tuple[int, ...] | None = None

    def select(self, layer: LayerInput) -> KeySet:
        layout, memory = layer.layout, self.memory
        k, v = shortened(layer, self.descriptors.reduction, self.descriptors.resample)
        each = tokens_per_short_frame(layout, self.descriptors.reduction)
        new = k.unflatten(2, (-1, each)), v.unflatten(2, (-1, each))
        if self.seen is not None and len(self.seen) < layout.frames:
            index = torch.tensor(self.seen, device=k.device)
            new = new[0][:, :, index], new[1][:, :, index]
        if memory.short is None:
            first_frame = torch.zeros(len(k), 1, dtype=torch.long, device=k.device)
            memory.new_whole = layer.keys_values_of(first_frame, patch_places(layout))
        whole = memory.new_whole if memory.whole is None else memory.whole
        memory.new_short = new
        short = new if memory.short is None else _concatenated(memory.short, new)
        assert whole is not None
        frames = short[0].shape[2]
        keys, values = _concatenated(whole, (short[0].flatten(2, 3), short[1].flatten(2, 3)))
        weight = self._log_weight(layout, frames, keys)
        return KeySet(keys, values, weight, shapes_vary=True)  # each chunk brings more of them

    def count(self, layout: TokenLayout) -> float:
        past = 0 if self.memory.short is None else self.memory.short[0].shape[2]
        frames = past + (layout.frames if self.seen is None else len(self.seen))
        return frames * tokens_per_short_frame(layout, self.descriptors.reduction) + layout.patches_per_frame

    def projected(self, layout: TokenLayout) -> float:
        whole = layout.patches_per_frame if self.memory.short is None else 0
        return layout.frames * tokens_per_short_frame(layout, self.descriptors.reduction) + whole

    def _log_weight(self, layout: TokenLayout, frames: int, k: Tensor) -> Float[Tensor, "1 1 keys"] | None:
        """The weights of `DescriptorKeys`; frame 0 is the first in memory and the one with all patches."""
        bias, duplicates = self.descriptors.count_bias, self.descriptors.duplicates
        if bias == 0 and duplicates:
            return None
        each = log_counts(layout, self.descriptors.reduction, bias)
        weight = each.to(k.device).repeat(frames, 1)
        if not duplicates:
            weight[0, layout.special_tokens :] = float("-inf")
        return torch.nn.functional.pad(weight.flatten(), (layout.patches_per_frame, 0))[None, None]


def _concatenated(first: Pair, second: Pair) -> Pair:
    return torch.cat([first[0], second[0]], 2), torch.cat([first[1], second[1]], 2)
