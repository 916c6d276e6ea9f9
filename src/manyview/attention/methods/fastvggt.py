"""FastVGGT: one merging of queries, keys and values for all heads in every global layer."""

from __future__ import annotations

import dataclasses
import functools

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...errors import UsageError
from ..global_attention import GlobalAttention
from ..index_cache import for_later_calls
from ..layout import TokenLayout
from ..merging.blocks import MergeBlocks, MergePlan
from ..merging.matching import match
from ..merging.means import copy_back, pool
from ..protocols import KeySet, LayerInput, QuerySet


@dataclasses.dataclass(frozen=True)
class SequencePlan:
    """Who may join whom; `twice` are tokens that also pass through on their own, behind the merged ones."""

    merge: MergePlan
    twice: Int[Tensor, " twice"]

    @property
    def slots(self) -> int:
        """Length of the short sequence."""
        return self.merge.slots + len(self.twice)


@dataclasses.dataclass(frozen=True)
class SequenceMerge:
    """FastVGGT's merging: most tokens join the most similar kept one anywhere in the sequence.

    Others join: all tokens of the reference frame, all special tokens, and one random patch of each whole
    `window` (rows, columns) of the other frames. A share `protect` of the sequence, at a regular step, joins
    nobody and passes through on its own, also where others join it. At most a share `ratio` of all tokens
    joins. `sheared` repeats the released code's pattern, which is laid out for the largest grid of whole
    windows and so shifts row by row on other grids; `half_scores` its comparison in bfloat16. As queries and
    keys of one layer it is one merging. Matching costs the square of the sequence.
    Source: FastVGGT (arXiv 2509.02560), section 3, and the release.
    """

    ratio: float = 0.9
    protect: float = 0.1
    window: tuple[int, int] = (2, 2)
    seed: int = 33
    sheared: bool = False
    half_scores: bool = False

    def __post_init__(self) -> None:
        if not (0 <= self.ratio <= 1 and 0 <= self.protect <= 1):
            raise ValueError(f"ratio and protect are shares from 0 to 1, got {self.ratio}, {self.protect}")
        if min(self.window) < 1:
            raise ValueError(f"a window is at least 1x1, got {self.window}")

    def plan(self, layout: TokenLayout) -> SequencePlan:
        """Roles of a layout's tokens; none where nothing is merged or protected."""
        return _sequence_plan(self, layout)

    def reduce(self, layer: LayerInput) -> QuerySet:
        q = layer.attention.queries(layer.tokens, layer.rotation, layer.piece)
        if self._off(layer.layout):
            return QuerySet(q)
        back = self.back(layer).expand(-1, q.shape[1], -1)
        restore = functools.partial(copy_back, slot=back, kernels=layer.run.kernels)
        return QuerySet(self.shorten(layer, q), restore, merged=True)

    def select(self, layer: LayerInput) -> KeySet:
        k, v = layer.attention.keys_values(layer.tokens, layer.rotation, layer.piece)
        if self._off(layer.layout):
            return KeySet(k, v)
        return KeySet(self.shorten(layer, k), self.shorten(layer, v))

    def shorten(
        self, layer: LayerInput, x: Float[Tensor, "batch heads tokens dim"]
    ) -> Float[Tensor, "batch heads short dim"]:
        """Means of those that joined, then the protected tokens."""
        plan = self.plan(layer.layout)
        sums, counts = pool(x, self._slots(layer)[0], plan.merge.slots + 1)
        means = (sums / counts[..., None].clamp(min=1))[:, :, :-1].to(x.dtype)
        return torch.cat([means, x[:, :, plan.twice.to(x.device)]], 2)

    def back(self, layer: LayerInput) -> Int[Tensor, "batch one tokens"]:
        """Place in the short sequence whose output each token gets."""
        return self._slots(layer)[1]

    def _slots(self, layer: LayerInput) -> tuple[Tensor, Tensor]:
        """Slot that each token is averaged in, and slot whose output it gets; matched once a layer."""
        memory, plan = layer.run.memory, self.plan(layer.layout)
        found = memory.get(("merge", self))
        if found is None or found[0] != layer.run.layer:
            features = layer.tokens[:, None]
            if self.half_scores:
                features = features / features.norm(dim=-1, keepdim=True)
                features = features.bfloat16()
            into = match(features, plan.merge, self.half_scores, layer.run.kernels)
            back = into.clone()
            back[..., plan.twice.to(back.device)] = plan.merge.slots + torch.arange(
                len(plan.twice), device=back.device
            )
            found = memory["merge", self] = (layer.run.layer, into, back)
        return found[1], found[2]

    def _off(self, layout: TokenLayout) -> bool:
        plan = self.plan(layout)
        return plan.merge.slots == layout.tokens and not len(plan.twice)

    def count(self, layout: TokenLayout) -> float:
        return self.plan(layout).slots

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return self.plan(layout).merge.matching_flops(dim)


@dataclasses.dataclass(frozen=True)
class FastVggt:
    """FastVGGT (arXiv 2509.02560), training-free: see `SequenceMerge`. Layers before `start` stay dense."""

    ratio: float = 0.9
    protect: float = 0.1
    window: tuple[int, int] = (2, 2)
    start: int = 0
    seed: int = 33
    sheared: bool = False
    half_scores: bool = False

    def __post_init__(self) -> None:
        self._merge()

    def _merge(self) -> SequenceMerge:
        return SequenceMerge(self.ratio, self.protect, self.window, self.seed, self.sheared, self.half_scores)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        if not 0 <= self.start <= depth:
            raise UsageError(f"fastvggt: start={self.start} is not a number of layers from 0 to {depth}")
        merge = self._merge()
        return (GlobalAttention(),) * self.start + (GlobalAttention(merge, merge),) * (depth - self.start)


@functools.lru_cache(maxsize=32)
def _sequence_plan(merge: SequenceMerge, layout: TokenLayout) -> SequencePlan:
    with for_later_calls():
        specials = torch.ones(layout.frames, layout.special_tokens, dtype=torch.bool)
        into = torch.cat([specials, _one_of_each_window(merge, layout)], 1).flatten()
        many = int(merge.protect * layout.tokens)
        twice = torch.arange(many) * (layout.tokens // max(many, 1))
        free = torch.ones(layout.tokens, dtype=torch.bool)
        free[twice] = False
        tokens = (free | into).nonzero()[:, 0]
        places, sources = into[tokens].nonzero()[:, 0], (~into[tokens]).nonzero()[:, 0]
        merged = min(int(merge.ratio * layout.tokens), len(sources)) if len(places) else 0
        block = MergeBlocks(tokens[None], places, sources, merged)
        return SequencePlan(MergePlan(torch.arange(0), (block,)), twice)


def _one_of_each_window(merge: SequenceMerge, layout: TokenLayout) -> Bool[Tensor, "frames patches"]:
    """Patches that others join, by the draw of the released code: a cell number for each whole window."""
    (high, wide), reference = merge.window, layout.reference_frame
    down, right = layout.grid[0] // high, layout.grid[1] // wide
    whole = torch.zeros(layout.frames, *layout.grid, dtype=torch.bool)
    others = torch.arange(layout.frames) != (-1 if reference is None else reference)
    frames = int(others.sum())
    if reference is not None:
        whole[reference] = True
    if not frames or not down * right:
        return whole.flatten(1)
    generator = torch.Generator().manual_seed(merge.seed)
    cell = torch.randint(high * wide, (frames, down, right, 1), generator=generator)
    pattern = torch.zeros(frames, down, right, high * wide, dtype=torch.bool).scatter_(3, cell, True)
    pattern = pattern.unflatten(3, (high, wide)).transpose(2, 3).reshape(frames, down * high, right * wide)
    if merge.sheared:
        flat = whole.flatten(1)
        flat[others, : down * high * right * wide] = pattern.flatten(1)
        return flat
    whole[others, : down * high, : right * wide] = pattern
    return whole.flatten(1)
