"""Keys drawn at random: what every clever choice has to beat, and variety for elastic training."""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Bool
from torch import Tensor

from ..dense import NoFill
from ..global_attention import GlobalAttention
from ..index_cache import for_later_calls
from ..layout import TokenLayout
from ..protocols import KeySet, LayerInput
from .avggt import DiagonalMean


@dataclasses.dataclass(frozen=True)
class RandomKeys:
    """All special tokens, the whole reference frame, and a random share `keep` of each other frame's patches.

    At least one patch of each frame is kept; the draw depends on `seed` and the layout alone.
    `project_all` projects the dropped tokens too, for fills that need them.
    """

    keep: float = 0.25
    seed: int = 0
    project_all: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is a share above 0 and up to 1, got {self.keep}")

    def select(self, layer: LayerInput) -> KeySet:
        mask = _drawn(self.keep, self.seed, layer.layout).to(layer.tokens.device)
        index = mask.nonzero()[:, 0]
        if not self.project_all:
            rotation = None if layer.rotation is None else layer.rotation.select(index)
            k, v = layer.attention.keys_values(layer.tokens[:, index], rotation)
            return KeySet(k, v, kept=mask, kept_index=index)
        k, v = layer.attention.keys_values(layer.tokens, layer.rotation, layer.piece)
        return KeySet(k[:, :, index], v[:, :, index], kept=mask, kept_index=index, all_keys=k, all_values=v)

    def count(self, layout: TokenLayout) -> float:
        return float(_drawn(self.keep, self.seed, layout).sum())

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens if self.project_all else self.count(layout)


@dataclasses.dataclass(frozen=True)
class Random:
    """A random share `keep` of the patches of each frame as keys (see `RandomKeys`); no paper's method.

    `fill` adds AVGGT's diagonal and mean of what was dropped.
    """

    keep: float = 0.25
    seed: int = 0
    fill: bool = False

    def __post_init__(self) -> None:
        RandomKeys(self.keep)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        """One answer per global layer."""
        keys = RandomKeys(self.keep, self.seed, project_all=self.fill)
        return (GlobalAttention(keys=keys, fill=DiagonalMean() if self.fill else NoFill()),) * depth


@functools.lru_cache(maxsize=32)
def _drawn(keep: float, seed: int, layout: TokenLayout) -> Bool[Tensor, " tokens"]:
    with for_later_calls():
        many = max(1, round(keep * layout.patches_per_frame))
        generator = torch.Generator().manual_seed(seed)
        chance = torch.rand(layout.frames, layout.patches_per_frame, generator=generator)
        patches = torch.zeros_like(chance, dtype=torch.bool)
        patches.scatter_(1, chance.topk(many, dim=1).indices, True)
        if layout.reference_frame is not None:
            patches[layout.reference_frame] = True
        specials = torch.ones(layout.frames, layout.special_tokens, dtype=torch.bool)
        return torch.cat([specials, patches], 1).flatten()
