"""GoToHunt: early layers by frame, then common keys of a few covering frames, on a coarser grid at first."""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Int
from torch import Tensor

from ...errors import UsageError
from ..dense import SameFrameKeys
from ..frame_choice import covering
from ..global_attention import GlobalAttention
from ..index_cache import for_later_calls
from ..layout import TokenLayout
from ..protocols import KeySet, LayerInput


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


@dataclasses.dataclass(frozen=True)
class GoToHunt:
    """GoToHunt (arXiv 2605.23892), training-free: see `CoveringFrameKeys`.

    Global layers before `early` see their own frame, those before `full` every `stride`-th patch per side of
    the common frames, the others all of them. Defaults: 2 and 9 of 24 layers, the same share of
    another depth.
    """

    frames: int = 25
    stride: int = 2
    early: int | None = None
    full: int | None = None

    def __post_init__(self) -> None:
        CoveringFrameKeys(self.frames, self.stride)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        early = round(2 / 24 * depth) if self.early is None else self.early
        full = max(early, round(9 / 24 * depth)) if self.full is None else self.full
        if not 0 <= early <= full <= depth:
            raise UsageError(
                f"gotohunt: early={early} and full={full} are not numbers of layers in order up to {depth}"
            )
        own = GlobalAttention(keys=SameFrameKeys())
        coarse = GlobalAttention(keys=CoveringFrameKeys(self.frames, self.stride))
        whole = GlobalAttention(keys=CoveringFrameKeys(self.frames))
        return (own,) * early + (coarse,) * (full - early) + (whole,) * (depth - full)


@functools.lru_cache(maxsize=32)
def _every_patch(layout: TokenLayout, stride: int) -> Int[Tensor, " kept"]:
    """Places within a frame: specials, and the patches on every `stride`-th row and column."""
    with for_later_calls():
        patches = torch.arange(layout.patches_per_frame).view(layout.grid)[::stride, ::stride].flatten()
        return torch.cat([torch.arange(layout.special_tokens), layout.special_tokens + patches])
