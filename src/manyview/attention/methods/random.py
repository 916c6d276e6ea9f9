"""Random keys: the control that every choice of keys has to beat, and a choice for elastic training."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool
from torch import Tensor

from ..dense import NoFill
from ..global_attention import GlobalAttention
from ..index_cache import kept_for_later
from ..layout import TokenLayout
from ..preset import Preset
from ..subsampling import SubsampledKeys
from .avggt import DiagonalMean


@dataclasses.dataclass(frozen=True)
class RandomKeys(SubsampledKeys):
    """All special tokens, the whole reference frame, and a random share `keep` of each other frame's patches.

    At least one patch of each frame is kept; the draw depends on `seed` and the layout alone.
    """

    keep: float = 0.25
    seed: int = 0
    project_all: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.keep <= 1:
            raise ValueError(f"keep is a share above 0 and up to 1, got {self.keep}")

    period = 1

    def kept(self, layout: TokenLayout) -> Bool[Tensor, " tokens"]:
        return _kept(layout, self.keep, self.seed)


@dataclasses.dataclass(frozen=True)
class Random(Preset):
    """Random keys in every layer; `fill` adds AVGGT's diagonal and mean of the dropped tokens."""

    name = "random"
    paper = "none (control)"
    about = "random patches of each frame are keys"

    keep: float = 0.25
    seed: int = 0
    fill: bool = False

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        keys = RandomKeys(self.keep, self.seed, project_all=self.fill)
        return (GlobalAttention(keys=keys, fill=DiagonalMean() if self.fill else NoFill()),) * depth


@kept_for_later
def _kept(layout: TokenLayout, keep: float, seed: int) -> Bool[Tensor, " tokens"]:
    many = max(1, round(keep * layout.patches_per_frame))
    generator = torch.Generator().manual_seed(seed)
    chance = torch.rand(layout.frames, layout.patches_per_frame, generator=generator)
    patches = torch.zeros_like(chance, dtype=torch.bool)
    patches.scatter_(1, chance.topk(many, dim=1).indices, True)
    if layout.reference_frame is not None:
        patches[layout.reference_frame] = True
    specials = torch.ones(layout.frames, layout.special_tokens, dtype=torch.bool)
    return torch.cat([specials, patches], 1).flatten()
