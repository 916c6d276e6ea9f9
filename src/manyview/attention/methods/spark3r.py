"""Spark3R (arXiv 2605.06270): merged queries, and keys of a few whole frames, in all global layers.

Training-free, for videos. What the paper says, and where it is here:

1. Queries are merged in groups of 20 consecutive frames, to one in 1, 2, 3 or 4 for up to 100, 300, 500 and
   more frames. Destinations lie on a fixed lattice that moves on from frame to frame; the others are merged
   into the most similar one (cosine, means), and its output is copied to them (`GroupMergedQueries`).
2. Keys and values: all tokens of every r-th frame, r = 1 up to 100 frames, then ceil(frames / 40)
   (`EveryFrameKeys`).
3. Layers that a probe found insensitive (all but 11 to 16 of VGGT's 24) use every 3 r-th frame (`Spark3r`).

Where the paper is silent: docs/methods/spark3r.md.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...errors import UsageError
from ..global_attention import GlobalAttention
from ..index_cache import kept_for_later
from ..layout import TokenLayout
from ..merging.blocks import MergeBlocks, MergePlan
from ..merging.matching import match
from ..merging.means import SlotMembers, adds_rows, by_slot, copy_back, means_of
from ..preset import Preset
from ..protocols import Exchange, Keys, KeySet, LayerInput, Queries, QuerySet

_SENSITIVE = (11 / 24, 17 / 24)  # layers 11 to 16 of VGGT and pi3


@dataclasses.dataclass(frozen=True)
class GroupMergedQueries(Queries):
    """Of each `group` of consecutive frames one patch query in `factor` is left (None: the paper's table).

    `match_channels`: tokens are compared by the means of so many groups of neighbouring channels (None: by
    all channels). `match_every`: a matching serves so many layers.
    """

    factor: int | None = None
    group: int = 20
    match_channels: int | None = None
    match_every: int = 1

    def __post_init__(self) -> None:
        if self.match_every < 1 or (self.match_channels is not None and self.match_channels < 1):
            raise ValueError(
                f"match_every and match_channels count from 1, got {self.match_every}, {self.match_channels}"
            )
        if self.group < 1 or (self.factor is not None and self.factor < 1):
            raise ValueError(f"factor and group count from 1, got {self.factor} and {self.group}")

    def reduce(self, layer: LayerInput) -> QuerySet:
        q = layer.queries()
        plan = layer.on_device(_group_plan, self, layer.layout, self._factor(layer.whole))
        if plan.slots == layer.layout.tokens:
            return QuerySet(q)
        slot, members = self._matched(layer, plan)
        short, _ = means_of(q, slot, plan.slots, members)
        return QuerySet(short, functools.partial(copy_back, slot=slot, kernels=layer.run.kernels))

    def _matched(self, layer: LayerInput, plan: MergePlan) -> tuple[Tensor, SlotMembers | None]:
        """Slot of every token, and the members of each where means read them in order; kept for layers."""
        memory, number = layer.run.memory, layer.run.layer
        first, *kept = memory.get(("matched queries", self), (None, None, None))
        if first is None or not first <= number < first + self.match_every:
            features = _fewer_channels(layer.tokens, self.match_channels)
            slot = match(features[:, None], plan, kernels=layer.run.kernels)
            kept = [slot, None if adds_rows(layer.tokens) else by_slot(slot, plan.slots)]
            memory["matched queries", self] = (number, *kept)
        return kept[0], kept[1]

    def count(self, layout: TokenLayout) -> float:
        return self._over_groups(layout, lambda plan: plan.slots)

    def extra(self, layout: TokenLayout, dim: int) -> float:
        channels = dim if self.match_channels is None else min(self.match_channels, dim)
        return self._over_groups(layout, lambda plan: plan.matching_flops(channels)) / self.match_every

    def _over_groups(self, layout: TokenLayout, of_plan: Callable[[MergePlan], float]) -> float:
        """The sum over groups of what a plan of one group gives."""
        factor, (full, rest) = self._factor(layout), divmod(layout.frames, self.group)

        def of_group(frames: int) -> float:
            one = dataclasses.replace(layout, frames=frames, reference_frame=None)
            return of_plan(_group_plan(self, one, factor))

        return (full * of_group(self.group) if full else 0) + (of_group(rest) if rest else 0)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        """Nothing: groups are merged by themselves."""
        return Exchange(frames_together=self.group if self._factor(whole) > 1 else 1)

    def _factor(self, whole: TokenLayout) -> int:
        return query_factor(whole.frames) if self.factor is None else self.factor


@dataclasses.dataclass(frozen=True)
class EveryFrameKeys(Keys):
    """All tokens of every r-th frame and of the reference frame; r is `period` times `multiple`.

    `period` None: 1 up to 100 frames, else a fortieth of the frames, rounded up.
    """

    period: int | None = None
    multiple: int = 1

    def __post_init__(self) -> None:
        if self.multiple < 1 or (self.period is not None and self.period < 1):
            raise ValueError(f"period and multiple count from 1, got {self.period} and {self.multiple}")

    single_tokens = True

    def frames(self, layout: TokenLayout) -> list[int]:
        """Frames whose tokens are keys."""
        period = self.period or (1 if layout.frames <= 100 else math.ceil(layout.frames / 40))
        # Few frames are reduced nowhere, whatever the multiple.
        every = 1 if self.period is None and period == 1 else period * self.multiple
        return sorted({*range(0, layout.frames, every), layout.reference_frame or 0})

    def select(self, layer: LayerInput) -> KeySet:
        frames = tuple(self.frames(layer.whole))
        if len(frames) == layer.whole.frames:
            return KeySet(*layer.keys_values())

        def chosen() -> Tensor:
            return layer.on_device(_frame_index, frames).expand(len(layer.tokens), -1)

        k, v = layer.keys_values_of(layer.run.once(("every frame", frames), chosen))
        return KeySet(k, v, joined=k.shape[2])

    def token_index(self, layer: LayerInput) -> Int[Tensor, "batch keys"]:
        each = layer.layout.tokens_per_frame
        index = torch.tensor(self.frames(layer.whole))[:, None] * each + torch.arange(each)
        return index.flatten().expand(len(layer.tokens), -1)

    def count(self, layout: TokenLayout) -> float:
        return len(self.frames(layout)) * layout.tokens_per_frame

    def projected(self, layout: TokenLayout) -> float:
        return self.count(layout)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        return Exchange(tokens=self.count(whole))


@dataclasses.dataclass(frozen=True)
class Spark3r(Preset):
    """`q` and `r` None follow the paper's table by the number of frames, which reduces nothing up to 100.

    Layers outside `sensitive` (first x last; None: the paper's share of the depth) use keys of every
    `multiple` * r-th frame. `match_channels` and `match_every` make matching cheaper (`GroupMergedQueries`).
    """

    name = "spark3r"
    paper = "Spark3R (arXiv 2605.06270)"
    about = "merged queries in groups of frames; keys of every r-th frame"

    q: int | None = None
    r: int | None = None
    multiple: int = 3
    group: int = 20
    sensitive: tuple[int, int] | None = None
    match_channels: int | None = None
    match_every: int = 1

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        first, last = self.sensitive or (round(_SENSITIVE[0] * depth), round(_SENSITIVE[1] * depth) - 1)
        if self.sensitive:
            self.check_range(depth, "sensitive", first, last)
        queries = GroupMergedQueries(self.q, self.group, self.match_channels, self.match_every)
        some = GlobalAttention(queries, EveryFrameKeys(self.r))
        fewer = GlobalAttention(queries, EveryFrameKeys(self.r, self.multiple))
        return tuple(some if first <= layer <= last else fewer for layer in range(depth))


def query_factor(frames: int) -> int:
    """Spark3R's reduction of queries for a number of frames."""
    return 1 + (frames > 100) + (frames > 300) + (frames > 500)


def _fewer_channels(
    tokens: Float[Tensor, "batch tokens dim"], channels: int | None
) -> Float[Tensor, "batch tokens fewer"]:
    """Means of `channels` groups of neighbouring channels."""
    dim = tokens.shape[-1]
    if channels is None or channels >= dim:
        return tokens
    if dim % channels:
        raise UsageError(f"match_channels={channels} does not divide this network's {dim} channels")
    fewer: Tensor = tokens.unflatten(-1, (channels, -1)).mean(-1)
    return fewer


@kept_for_later
def _frame_index(frames: tuple[int, ...]) -> Int[Tensor, " frames"]:
    return torch.tensor(frames)


@kept_for_later
def _group_plan(merge: GroupMergedQueries, layout: TokenLayout, factor: int) -> MergePlan:
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
