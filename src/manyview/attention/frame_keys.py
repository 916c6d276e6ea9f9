"""Keys of a few frames that all queries share: at equal distances (Spark3R) or covering ones (GoToHunt)."""

from __future__ import annotations

import dataclasses
import functools
import math

import torch
from jaxtyping import Int
from torch import Tensor

from .frame_choice import covering
from .index_cache import for_later_calls
from .layout import TokenLayout
from .protocols import KeySet, LayerInput


@dataclasses.dataclass(frozen=True)
class EveryFrameKeys:
    """All tokens of every r-th frame, with the reference frame; nothing of the others.

    r is `period` times `multiple`; `period` None: 1 up to 100 frames, else a fortieth of the frames, rounded
    up. Source: Spark3R (arXiv 2605.06270), key/value pruning.
    """

    period: int | None = None
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.multiple < 1 or (self.period is not None and self.period < 1):
            raise ValueError(f"period and multiple count from 1, got {self.period} and {self.multiple}")

    def frames(self, layout: TokenLayout) -> list[int]:
        """Frames whose tokens are keys."""
        period = self.period or (1 if layout.frames <= 100 else math.ceil(layout.frames / 40))
        # Few frames are reduced nowhere, whatever the multiple.
        every = 1 if self.period is None and period == 1 else period * self.multiple
        return sorted({*range(0, layout.frames, every), layout.reference_frame or 0})

    def select(self, layer: LayerInput) -> KeySet:
        layout = layer.layout
        chosen = torch.tensor(self.frames(layout), device=layer.tokens.device)
        if len(chosen) == layout.frames:
            return KeySet(*layer.attention.keys_values(layer.tokens, layer.rotation, layer.piece))
        tokens = layer.tokens.unflatten(1, (layout.frames, -1))[:, chosen].flatten(1, 2)
        return KeySet(*layer.attention.keys_values(tokens, layer.rotation, layer.piece))

    def count(self, layout: TokenLayout) -> float:
        return len(self.frames(layout)) * layout.tokens_per_frame

    def projected(self, layout: TokenLayout) -> float:
        return self.count(layout)


@dataclasses.dataclass(frozen=True)
class CoveringFrameKeys:
    """Special tokens and every `stride`-th patch (per side) of `frames` covering frames, chosen once a run.

    Farthest-point sampling on the encoder's mean tokens, the reference frame first (the paper: on the
    descriptors of a retrieval network). Source: GoToHunt (arXiv 2605.23892).
    """

    frames: int = 25
    stride: int = 1

    needs_frame_features = True

    def __post_init__(self) -> None:
        if self.frames < 1 or self.stride < 1:
            raise ValueError(f"frames and stride count from 1, got {self.frames} and {self.stride}")

    def select(self, layer: LayerInput) -> KeySet:
        layout, tokens = layer.layout, layer.tokens
        name = ("anchors", self.frames, "coverage")
        if name not in layer.run.memory:
            assert layer.run.frame_features is not None
            layer.run.memory[name] = covering(
                layer.run.frame_features.detach(), self.frames, layout.reference_frame
            ).to(tokens.device)
        chosen = layer.run.memory[name].sort(1).values
        within = _every_patch(layout, self.stride).to(tokens.device)
        rows = torch.arange(tokens.shape[0], device=tokens.device)[:, None, None]
        kept = tokens.unflatten(1, (layout.frames, -1))[rows, chosen[..., None], within]
        rotation = None if layer.rotation is None else layer.rotation.select(within)
        piece = None if layer.run.frames_per_chunk is None else layer.run.frames_per_chunk * len(within)
        return KeySet(*layer.attention.keys_values(kept.flatten(1, 2), rotation, piece))

    def count(self, layout: TokenLayout) -> float:
        return min(self.frames, layout.frames) * len(_every_patch(layout, self.stride))

    def projected(self, layout: TokenLayout) -> float:
        return self.count(layout)


@functools.lru_cache(maxsize=32)
def _every_patch(layout: TokenLayout, stride: int) -> Int[Tensor, " kept"]:
    """Places within a frame: specials, and the patches on every `stride`-th row and column."""
    with for_later_calls():
        patches = torch.arange(layout.patches_per_frame).view(layout.grid)[::stride, ::stride].flatten()
        return torch.cat([torch.arange(layout.special_tokens), layout.special_tokens + patches])
