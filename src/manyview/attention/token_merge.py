"""One merging for all heads, matched on the layer's input: of the whole sequence, or in groups of frames."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Protocol

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from .answers import KeySet, LayerInput, QuerySet
from .kept_tensors import for_later_calls
from .layout import TokenLayout
from .merging import MergeBlocks, MergePlan, copy_back, match, pool


class _Merge(Protocol):
    def plan(self, layout: TokenLayout) -> MergePlan: ...


@dataclasses.dataclass(frozen=True)
class SequenceMerge:
    """FastVGGT's merging: every token but a few joins the most similar kept one anywhere in the sequence.

    Others join: all tokens of the reference frame, all special tokens, and one random patch of each `window`
    (rows, columns) of the other frames. Every `protect`-th token of the sequence takes no part (0: none). At
    most a share `ratio` of all tokens joins. `sheared` repeats the released code's pattern, which is laid
    out for the largest grid of whole windows and so shifts row by row on other grids. As queries and as
    keys of one layer it is one merging. Matching costs the square of the sequence.
    Source: FastVGGT (arXiv 2509.02560), section 3 and the release.
    """

    ratio: float = 0.9
    protect: int = 10
    window: tuple[int, int] = (2, 2)
    seed: int = 33
    sheared: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.ratio <= 1:
            raise ValueError(f"ratio is a share from 0 to 1, got {self.ratio}")
        if self.protect < 0 or min(self.window) < 1:
            raise ValueError(f"protect counts from 0 and windows from 1x1, got {self.protect}, {self.window}")

    def plan(self, layout: TokenLayout) -> MergePlan:
        return _sequence_plan(self, layout)

    def reduce(self, layer: LayerInput) -> QuerySet:
        return _merged_queries(layer, self)

    def select(self, layer: LayerInput) -> KeySet:
        k, v = layer.attention.keys_values(layer.tokens, layer.rotation, layer.piece)
        plan = self.plan(layer.layout)
        if plan.slots == layer.layout.tokens:
            return KeySet(k, v)
        slot = _slots(layer, self)
        (key_sums, counts), (value_sums, _) = (pool(x, slot, plan.slots) for x in (k, v))
        return KeySet(*((sums / counts[..., None]).to(k.dtype) for sums in (key_sums, value_sums)))

    def count(self, layout: TokenLayout) -> float:
        return self.plan(layout).slots

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return self.plan(layout).matching_flops(dim)


@dataclasses.dataclass(frozen=True)
class GroupMergedQueries:
    """Spark3R's queries: one patch in `factor` asks, the others ask with the most similar one of their group.

    Groups are `group` consecutive frames; those that ask lie on a lattice that moves on from frame to frame.
    `factor` None: 1, 2, 3, 4 for up to 100, 300, 500 and more frames. Special tokens ask for themselves.
    Source: Spark3R (arXiv 2605.06270); the lattice and what is compared (the layer's input) are our reading.
    """

    factor: int | None = None
    group: int = 20

    def __post_init__(self) -> None:
        if self.group < 1 or (self.factor is not None and self.factor < 1):
            raise ValueError(f"factor and group count from 1, got {self.factor} and {self.group}")

    def plan(self, layout: TokenLayout) -> MergePlan:
        return _group_plan(self, layout)

    def reduce(self, layer: LayerInput) -> QuerySet:
        return _merged_queries(layer, self)

    def count(self, layout: TokenLayout) -> float:
        return self.plan(layout).slots

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return self.plan(layout).matching_flops(dim)


def _slots(layer: LayerInput, merge: _Merge) -> Int[Tensor, "batch one tokens"]:
    """Slot of every token, matched once a layer."""
    memory = layer.run.memory
    found = memory.get(("merge", merge))
    if found is None or found[0] != layer.run.layer:
        found = (layer.run.layer, match(layer.tokens[:, None], merge.plan(layer.layout)))
        memory["merge", merge] = found
    return found[1]


def _merged_queries(layer: LayerInput, merge: _Merge) -> QuerySet:
    q = layer.attention.queries(layer.tokens, layer.rotation, layer.piece)
    slots = merge.plan(layer.layout).slots
    if slots == layer.layout.tokens:
        return QuerySet(q)
    slot = _slots(layer, merge).expand(-1, q.shape[1], -1)
    sums, counts = pool(q, slot, slots)
    short = (sums / counts[..., None]).to(q.dtype)
    return QuerySet(short, functools.partial(copy_back, slot=slot), merged=True)


@functools.lru_cache(maxsize=32)
def _sequence_plan(merge: SequenceMerge, layout: TokenLayout) -> MergePlan:
    with for_later_calls():
        patches = _one_of_each_window(merge, layout)
        if layout.reference_frame is not None:
            patches[layout.reference_frame] = True
        specials = torch.ones(layout.frames, layout.special_tokens, dtype=torch.bool)
        into = torch.cat([specials, patches], 1).flatten()
        free = torch.ones(layout.tokens, dtype=torch.bool)
        if merge.protect:
            free[:: merge.protect] = False
        tokens = free.nonzero()[:, 0]
        places, sources = into[tokens].nonzero()[:, 0], (~into[tokens]).nonzero()[:, 0]
        merged = min(math.floor(merge.ratio * layout.tokens + 1e-9), len(sources)) if len(places) else 0
        block = MergeBlocks(tokens[None], places, sources, merged)
        return MergePlan((~free).nonzero()[:, 0], (block,))


def _one_of_each_window(merge: SequenceMerge, layout: TokenLayout) -> Bool[Tensor, "frames patches"]:
    (rows, columns), (high, wide) = layout.grid, merge.window
    generator = torch.Generator().manual_seed(merge.seed)
    if merge.sheared:
        rows, columns = rows // high * high, columns // wide * wide
    down, right = -(-rows // high), -(-columns // wide)
    chance = torch.full((layout.frames, down * high, right * wide), -1.0)
    chance[:, :rows, :columns] = torch.rand(layout.frames, rows, columns, generator=generator)
    cells = chance.view(layout.frames, down, high, right, wide).transpose(2, 3).flatten(3)
    first = cells == cells.amax(-1, keepdim=True)
    pattern = first.view(layout.frames, down, right, high, wide).transpose(2, 3)
    pattern = pattern.reshape(layout.frames, down * high, right * wide)[:, :rows, :columns].flatten(1)
    whole = torch.zeros(layout.frames, layout.patches_per_frame, dtype=torch.bool)
    whole[:, : pattern.shape[1]] = pattern  # shorter where sheared
    return whole


def query_factor(frames: int) -> int:
    """Spark3R's reduction of queries for a number of frames."""
    return 1 + (frames > 100) + (frames > 300) + (frames > 500)


@functools.lru_cache(maxsize=32)
def _group_plan(merge: GroupMergedQueries, layout: TokenLayout) -> MergePlan:
    factor = query_factor(layout.frames) if merge.factor is None else merge.factor
    with for_later_calls():
        starts = torch.arange(layout.frames)[:, None] * layout.tokens_per_frame
        alone = (starts + torch.arange(layout.special_tokens)).flatten()
        patches = starts + torch.arange(layout.special_tokens, layout.tokens_per_frame)
        row, column = torch.meshgrid(*(torch.arange(n) for n in layout.grid), indexing="ij")
        lattice = (column + max(1, factor // 2) * row).flatten()
        full, rest = divmod(layout.frames, merge.group)
        found = []
        for first, groups, frames in ((0, full, merge.group), (full * merge.group, 1, rest)):
            if not groups * frames:
                continue
            into = ((lattice + torch.arange(frames)[:, None]) % factor == 0).flatten()
            if not into.any():  # a grid smaller than the lattice
                into[0] = True
            tokens = patches[first : first + groups * frames].reshape(groups, -1)
            sources = (~into).nonzero()[:, 0]
            found.append(MergeBlocks(tokens, into.nonzero()[:, 0], sources, len(sources)))
        return MergePlan(alone, tuple(found))
