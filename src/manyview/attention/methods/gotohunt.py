"""GoToHunt, "Good token hunting" (arXiv 2605.23892): all queries share the keys of a few covering frames.

Training-free. The paper: global layers 0 and 1 of VGGT's 24 attend within frames; all others see the same
25 frames, chosen by farthest-point sampling (cosine) on the descriptors of a retrieval network, layers 2 to
8 only every second patch of them per side (`GoToHunt.layers`, `CoveringFrameKeys`).

Where we differ: docs/methods/gotohunt.md.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Int
from torch import Tensor

from ..frame_choice import covering_frames
from ..global_attention import SAME_FRAME, GlobalAttention
from ..index_cache import kept_for_later
from ..layout import TokenLayout
from ..preset import Preset
from ..protocols import Exchange, Keys, KeySet, LayerInput


@dataclasses.dataclass(frozen=True)
class CoveringFrameKeys(Keys):
    """Special tokens and every `stride`-th patch per side of `frames` covering frames, chosen once a pass."""

    frames: int = 25
    stride: int = 1

    def __post_init__(self) -> None:
        if self.frames < 1 or self.stride < 1:
            raise ValueError(f"frames and stride count from 1, got {self.frames} and {self.stride}")

    @property
    def needs_frame_features(self) -> bool:
        return True

    single_tokens = True

    def select(self, layer: LayerInput) -> KeySet:
        patches = layer.on_device(_every_patch, layer.layout, self.stride)
        k, v = layer.keys_values_of(self._chosen(layer), patches)
        return KeySet(k, v, joined=k.shape[2])

    def token_index(self, layer: LayerInput) -> Int[Tensor, "batch keys"]:
        starts = self._chosen(layer)[..., None] * layer.layout.tokens_per_frame
        return (starts + layer.on_device(_every_patch, layer.layout, self.stride)).flatten(1)

    def _chosen(self, layer: LayerInput) -> Int[Tensor, "batch chosen"]:
        name = ("covering in order", self.frames)
        return layer.run.once(name, lambda: covering_frames(layer, self.frames).sort(1).values)

    def count(self, layout: TokenLayout) -> float:
        return min(self.frames, layout.frames) * len(_every_patch(layout, self.stride))

    def projected(self, layout: TokenLayout) -> float:
        return self.count(layout)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(tokens=self.count(whole))


@dataclasses.dataclass(frozen=True)
class GoToHunt(Preset):
    """Layers before `early` attend within frames, those before `full` to every `stride`-th patch per side.

    Defaults: 2 and 9 of 24 layers, the same share of another depth.
    """

    name = "gotohunt"
    paper = "GoToHunt (arXiv 2605.23892)"
    about = "keys of a few covering frames for all, coarser at first; early layers within frames"

    frames: int = 25
    stride: int = 2
    early: int | None = None
    full: int | None = None

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        early = round(2 / 24 * depth) if self.early is None else self.early
        full = max(early, round(9 / 24 * depth)) if self.full is None else self.full
        self.check_layers(depth, early=early, full=full)
        coarse = GlobalAttention(keys=CoveringFrameKeys(self.frames, self.stride))
        whole = GlobalAttention(keys=CoveringFrameKeys(self.frames))
        return (SAME_FRAME,) * early + (coarse,) * (full - early) + (whole,) * (depth - full)


@kept_for_later
def _every_patch(layout: TokenLayout, stride: int) -> Int[Tensor, " kept"]:
    """Tokens of a frame: specials, and the patches on every `stride`-th row and column."""
    patches = torch.arange(layout.patches_per_frame).view(layout.grid)[::stride, ::stride].flatten()
    return torch.cat([torch.arange(layout.special_tokens), layout.special_tokens + patches])
