"""Spark3R: merged queries, keys of a few whole frames, fewer of them where layers do not mind."""

from __future__ import annotations

import dataclasses
import functools
import math

import torch

from ...errors import UsageError
from ..global_attention import GlobalAttention
from ..index_cache import for_later_calls
from ..layout import TokenLayout
from ..merging.blocks import MergeBlocks, MergePlan
from ..merging.matching import match
from ..merging.means import copy_back, pool
from ..protocols import KeySet, LayerInput, QuerySet

_SENSITIVE = (11 / 24, 17 / 24)  # layers 11 to 16 of VGGT and pi3


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
        q = layer.attention.queries(layer.tokens, layer.rotation, layer.piece)
        plan = self.plan(layer.layout)
        if plan.slots == layer.layout.tokens:
            return QuerySet(q)
        kernels = layer.run.kernels
        slot = match(layer.tokens[:, None], plan, kernels=kernels).expand(-1, q.shape[1], -1)
        sums, counts = pool(q, slot, plan.slots)
        short = (sums / counts[..., None]).to(q.dtype)
        return QuerySet(short, functools.partial(copy_back, slot=slot, kernels=kernels), merged=True)

    def count(self, layout: TokenLayout) -> float:
        return self.plan(layout).slots

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return self.plan(layout).matching_flops(dim)


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
class Spark3r:
    """Spark3R (arXiv 2605.06270), training-free: see `GroupMergedQueries` and `EveryFrameKeys`.

    `q` and `r` None follow the paper's table by the number of frames, which reduces nothing up to 100.
    Layers outside `sensitive` (first x last; None: the paper's share of the depth) use keys of every
    `multiple` * r-th frame.
    """

    q: int | None = None
    r: int | None = None
    multiple: int = 3
    group: int = 20
    sensitive: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        GroupMergedQueries(self.q, self.group)
        EveryFrameKeys(self.r, self.multiple)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        first, last = self.sensitive or (round(_SENSITIVE[0] * depth), round(_SENSITIVE[1] * depth) - 1)
        if self.sensitive and not 0 <= first <= last < depth:
            raise UsageError(f"spark3r: layers {first} to {last} are not among 0 to {depth - 1}")
        queries = GroupMergedQueries(self.q, self.group)
        some = GlobalAttention(queries, EveryFrameKeys(self.r))
        fewer = GlobalAttention(queries, EveryFrameKeys(self.r, self.multiple))
        return tuple(some if first <= layer <= last else fewer for layer in range(depth))


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
