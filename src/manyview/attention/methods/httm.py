"""HTTM (arXiv 2511.21317): every head merges its queries and its keys in blocks of space and time.

Training-free, in every global layer. Section 3 of the paper, and where it is here:

1. Temporal reordering: runs of n_s = 128 neighbouring tokens of a frame, over n_t = 30 consecutive frames,
   are a merging block (`SpaceTimeBlocks`, `merge_plan`).
2. Head-wise bipartite matching (ToMeSD's), after normalisation and rotation: each source of a block goes to
   the destination of the largest cosine similarity (`merging.matching`).
3. Merging: 0.9 of the queries (`MergedQueries`) and 0.7 of the keys (`MergedKeys`), to means of a destination
   and all that go there; values follow their keys (`merging.means`).
4. Outlier filtering, queries only: the tenth of all heads' queries that is farthest (L2) from its mean is
   taken out of it and computed alone, so heads differ in length (`merging.outliers`).
5. Attention on the short sequences; outputs are copied to the merged queries (`QuerySet.restore`).

Where the paper is silent: special tokens are in no block; the last run and the last group of frames are
shorter; destinations lie evenly through a block (`into="random"`: drawn), for queries a tenth, so that all
sources are merged; outliers are ranked exactly, over all heads of the layer; merged keys carry no count
(`count_bias` times its log). The paper's option that all tokens of the reference frame are destinations
(`anchor`) is off, as in its tables.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ..global_attention import GlobalAttention
from ..index_cache import kept_for_later
from ..layout import TokenLayout
from ..merging.blocks import MergeBlocks, MergePlan
from ..merging.matching import match
from ..merging.means import copy_back, slot_means
from ..merging.outliers import copy_packed, separate_outliers
from ..preset import Preset
from ..protocols import Keys, KeySet, LayerInput, Queries, QuerySet


@dataclasses.dataclass(frozen=True)
class SpaceTimeBlocks:
    """`space` neighbouring patches (row by row) of `time` consecutive frames are a merging block.

    `into` picks the destinations: "even", evenly through a block, or "random" (from a fixed seed).
    `anchor_first`: all tokens of the reference frame are among them.
    """

    space: int = 128
    time: int = 30
    into: Literal["even", "random"] = "even"
    anchor_first: bool = False

    def __post_init__(self) -> None:
        if self.space < 1 or self.time < 1:
            raise ValueError(f"merge blocks hold at least one patch and frame, got {self.space}x{self.time}")
        if self.into not in ("even", "random"):
            raise ValueError(f"into must be even or random, not {self.into!r}")


@dataclasses.dataclass(frozen=True)
class MergedQueries(Queries):
    """`ratio` of the patch queries of each head and block are merged; `outliers` of all taken out again."""

    ratio: float = 0.9
    outliers: float = 0.1
    blocks: SpaceTimeBlocks = SpaceTimeBlocks()

    def __post_init__(self) -> None:
        if not (0 <= self.ratio < 1 and 0 <= self.outliers <= 1):
            raise ValueError(f"ratio must be in [0, 1) and outliers in [0, 1], got {self}")

    def reduce(self, layer: LayerInput) -> QuerySet:
        q, plan = layer.queries(), layer.on_device(merge_plan, layer.layout, self.blocks, self.ratio)
        if plan.slots == q.shape[2]:
            return QuerySet(q)
        kernels = layer.run.kernels
        slot = match(q, plan, kernels=kernels)
        if self.outliers == 0:
            short, _, _ = slot_means(q, None, slot, plan, kernels)
            return QuerySet(short, functools.partial(copy_back, slot=slot, kernels=kernels))
        patches = q.shape[2] - len(plan.alone)
        many = round(self.outliers * (q.shape[1] * patches))
        short, places, lengths = separate_outliers(q, slot, plan, many, kernels)
        restore = functools.partial(copy_packed, places=places, kernels=kernels)
        return QuerySet(short, restore, lengths, plan.slots + min(many, patches))

    def count(self, layout: TokenLayout) -> float:
        slots = merge_plan(layout, self.blocks, self.ratio).slots
        patches = layout.frames * layout.patches_per_frame
        return slots if slots == layout.tokens else slots + self.outliers * patches

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return merge_plan(layout, self.blocks, self.ratio).matching_flops(dim)


@dataclasses.dataclass(frozen=True)
class MergedKeys(Keys):
    """A share `ratio` of the patch keys of each head and block is merged; values follow their keys."""

    ratio: float = 0.7
    count_bias: float = 0.0
    blocks: SpaceTimeBlocks = SpaceTimeBlocks()

    def __post_init__(self) -> None:
        if not (0 <= self.ratio < 1 and math.isfinite(self.count_bias)):
            raise ValueError(f"ratio must be in [0, 1) and count_bias finite, got {self}")

    def select(self, layer: LayerInput) -> KeySet:
        (k, v), plan = layer.keys_values(), layer.on_device(merge_plan, layer.layout, self.blocks, self.ratio)
        if plan.slots == k.shape[2]:
            return KeySet(k, v)
        slot = match(k, plan, kernels=layer.run.kernels)
        keys, values, counts = slot_means(k, v, slot, plan, layer.run.kernels)
        assert values is not None
        return KeySet(keys, values, self.count_bias * counts.log() if self.count_bias else None)

    def count(self, layout: TokenLayout) -> float:
        return merge_plan(layout, self.blocks, self.ratio).slots

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return merge_plan(layout, self.blocks, self.ratio).matching_flops(dim)


@dataclasses.dataclass(frozen=True)
class Httm(Preset):
    """Steps 1 to 5. `q`, `kv`: shares that are merged; `outliers`: share of queries taken out again."""

    name = "httm"
    paper = "HTTM (arXiv 2511.21317)"
    about = "every head merges its queries and its keys in blocks of patches and frames"

    q: float = 0.9
    kv: float = 0.7
    outliers: float = 0.1
    space: int = 128
    time: int = 30
    into: Literal["even", "random"] = "even"
    anchor: bool = False
    count_bias: float = 0.0

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        blocks = SpaceTimeBlocks(self.space, self.time, self.into, self.anchor)
        queries = MergedQueries(self.q, self.outliers, blocks)
        return (GlobalAttention(queries, MergedKeys(self.kv, self.count_bias, blocks)),) * depth


@kept_for_later
def merge_plan(layout: TokenLayout, cut: SpaceTimeBlocks, ratio: float) -> MergePlan:
    """Blocks of a layout, those of equal shape together."""
    specials = torch.arange(layout.frames)[:, None] * layout.tokens_per_frame
    alone = (specials + torch.arange(layout.special_tokens)).flatten()
    found = []
    whole_runs, rest = divmod(layout.patches_per_frame, cut.space)
    runs = [(0, whole_runs, cut.space), (whole_runs * cut.space, 1, rest)]
    anchor = layout.reference_frame if cut.anchor_first else None
    for first, groups, frames in _frame_groups(layout.frames, cut.time, anchor):
        for start, count, length in runs:
            if not (groups and frames and count and length):
                continue
            patch = layout.special_tokens + start + torch.arange(count * length).view(count, 1, length)
            frame = first + torch.arange(groups * frames).view(groups, 1, frames, 1)
            tokens = (frame * layout.tokens_per_frame + patch).reshape(groups * count, -1)
            into = torch.zeros(frames, length, dtype=torch.bool)
            if anchor is not None and first <= anchor < first + groups * frames:
                into[anchor - first] = True
            found.append(_roles(tokens, ratio, cut.into, into.flatten()))
    return MergePlan(alone, tuple(found))


def _frame_groups(frames: int, time: int, anchor: int | None) -> list[tuple[int, int, int]]:
    """(first frame, groups, frames of a group); the group with the `anchor` frame stands alone."""
    full, rest = divmod(frames, time)
    own = full if anchor is None else anchor // time
    groups = [(0, min(own, full), time)]
    if own < full:
        groups += [(own * time, 1, time), ((own + 1) * time, full - own - 1, time)]
    return [*groups, (full * time, 1, rest)]


def _roles(
    tokens: Int[Tensor, "blocks size"], ratio: float, choice: str, into: Bool[Tensor, " size"]
) -> MergeBlocks:
    """Destinations are what `ratio` leaves of a block, with those that are in `into` already."""
    size = tokens.shape[1]
    merged = math.floor(ratio * size + 1e-9)  # 0.7 * 10 is a hair below 7
    others = (~into).nonzero()[:, 0]
    wanted = max(0, size - merged - int(into.sum()))
    if choice == "random":
        chosen = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))[:wanted]
    else:
        chosen = (2 * torch.arange(wanted) + 1) * len(others) // (2 * max(wanted, 1))
    into[others[chosen]] = True
    sources = (~into).nonzero()[:, 0]
    return MergeBlocks(tokens, into.nonzero()[:, 0], sources, len(sources))
