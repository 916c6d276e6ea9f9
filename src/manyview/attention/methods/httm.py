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

Where the paper is silent: docs/methods/httm.md.
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
from ..protocols import Exchange, Keys, KeySet, LayerInput, Queries, QuerySet


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

    def merges(self, layout: TokenLayout, ratio: float) -> bool:
        """Whether anything is merged."""
        return any(shape.left(ratio) < shape.size for shape in _shapes(layout, self))

    def matching_flops(self, layout: TokenLayout, ratio: float, dim: int) -> float:
        """`MergePlan.matching_flops`, without the places of all tokens."""
        return sum(
            2.0 * shape.groups * shape.runs * shape.left(ratio) * (shape.size - shape.left(ratio)) * dim
            for shape in _shapes(layout, self)
        )

    def together(self, layout: TokenLayout, ratio: float) -> int:
        """How many consecutive frames must be on one rank, as blocks cannot be cut."""
        return self.time if self.merges(layout, ratio) else 1


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
        if not self.blocks.merges(layer.whole, self.ratio):
            return QuerySet(q)
        kernels = layer.run.kernels
        slot = match(q, plan, kernels=kernels)
        if self.outliers == 0:
            short, _, _ = slot_means(q, None, slot, plan, kernels)
            return QuerySet(short, functools.partial(copy_back, slot=slot, kernels=kernels))
        patches, whole = q.shape[2] - len(plan.alone), layer.whole
        many = round(self.outliers * (q.shape[1] * whole.frames * whole.patches_per_frame))
        short, places, lengths = separate_outliers(q, slot, plan, many, kernels, layer.run.ranks)
        restore = functools.partial(copy_packed, places=places, kernels=kernels)
        return QuerySet(short, restore, lengths, plan.slots + min(many, patches))

    def count(self, layout: TokenLayout) -> float:
        left = slots(layout, self.blocks, self.ratio)
        patches = layout.frames * layout.patches_per_frame
        return left if left == layout.tokens else left + self.outliers * patches

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return self.blocks.matching_flops(layout, self.ratio, dim)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        """Blocks are merged by themselves; outliers are ranked by the distances of all queries."""
        ranked = self.outliers > 0 and self.blocks.merges(whole, self.ratio)
        together = self.blocks.together(whole, self.ratio)
        return Exchange(numbers=ranked * num_heads * whole.tokens, frames_together=together)


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
        if not self.blocks.merges(layer.whole, self.ratio):
            return KeySet(k, v)
        slot = match(k, plan, kernels=layer.run.kernels)
        keys, values, counts = slot_means(k, v, slot, plan, layer.run.kernels)
        assert values is not None
        weight = self.count_bias * counts.log() if self.count_bias else None
        return KeySet(keys, values, weight, sizes=self._sizes(layer))

    def _sizes(self, layer: LayerInput) -> tuple[int, ...] | None:
        """Keys that each rank has."""
        if layer.run.ranks is None:
            return None
        layouts = (layer.whole.part(split) for split in layer.run.ranks.split.parts)
        return tuple(slots(layout, self.blocks, self.ratio) for layout in layouts)

    def count(self, layout: TokenLayout) -> float:
        return slots(layout, self.blocks, self.ratio)

    def extra(self, layout: TokenLayout, dim: int) -> float:
        return self.blocks.matching_flops(layout, self.ratio, dim)

    def exchange(self, whole: TokenLayout, num_heads: int, dim: int) -> Exchange:
        keys = self.count(whole)
        together = self.blocks.together(whole, self.ratio)
        return Exchange(keys, num_heads * keys if self.count_bias else 0, together)


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


@dataclasses.dataclass(frozen=True)
class _Shape:
    """Blocks of `frames` frames and `length` patches: `groups` from frame `first` on, `runs` from `start` on.

    `anchors`: all patches of that frame of a block are destinations.
    """

    first: int
    groups: int
    frames: int
    start: int
    runs: int
    length: int
    anchors: int | None

    @property
    def size(self) -> int:
        """Tokens of a block."""
        return self.frames * self.length

    def left(self, ratio: float) -> int:
        """Tokens of a block that remain; what is merged is rounded down."""
        merged = math.floor(ratio * self.size + 1e-9)  # 0.7 * 10 is a hair below 7
        return max(self.size - merged, 0 if self.anchors is None else self.length)


def _shapes(layout: TokenLayout, cut: SpaceTimeBlocks) -> list[_Shape]:
    anchor = layout.reference_frame if cut.anchor_first else None
    whole_runs, rest = divmod(layout.patches_per_frame, cut.space)
    found = []
    for first, groups, frames in _frame_groups(layout.frames, cut.time, anchor):
        anchors = anchor - first if anchor is not None and 0 <= anchor - first < groups * frames else None
        for start, runs, length in ((0, whole_runs, cut.space), (whole_runs * cut.space, 1, rest)):
            if groups and frames and runs and length:
                found.append(_Shape(first, groups, frames, start, runs, length, anchors))
    return found


def slots(layout: TokenLayout, cut: SpaceTimeBlocks, ratio: float) -> int:
    """How many tokens are left of a layout."""
    blocks = sum(shape.groups * shape.runs * shape.left(ratio) for shape in _shapes(layout, cut))
    return layout.frames * layout.special_tokens + blocks


@kept_for_later
def merge_plan(layout: TokenLayout, cut: SpaceTimeBlocks, ratio: float) -> MergePlan:
    """Blocks of a layout, those of equal shape together."""
    specials = torch.arange(layout.frames)[:, None] * layout.tokens_per_frame
    alone = (specials + torch.arange(layout.special_tokens)).flatten()
    found = []
    for shape in _shapes(layout, cut):
        many, length = shape.runs * shape.length, shape.length
        patch = layout.special_tokens + shape.start + torch.arange(many).view(shape.runs, 1, length)
        frame = shape.first + torch.arange(shape.groups * shape.frames).view(shape.groups, 1, shape.frames, 1)
        tokens = (frame * layout.tokens_per_frame + patch).reshape(shape.groups * shape.runs, -1)
        into = torch.zeros(shape.frames, length, dtype=torch.bool)
        if shape.anchors is not None:
            into[shape.anchors] = True
        found.append(_roles(tokens, shape.left(ratio), cut.into, into.flatten()))
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
    tokens: Int[Tensor, "blocks size"], left: int, choice: str, into: Bool[Tensor, " size"]
) -> MergeBlocks:
    """`left` destinations of a block, those that are in `into` already among them."""
    others = (~into).nonzero()[:, 0]
    wanted = left - int(into.sum())
    if choice == "random":
        chosen = torch.randperm(len(others), generator=torch.Generator().manual_seed(0))[:wanted]
    else:
        chosen = (2 * torch.arange(wanted) + 1) * len(others) // (2 * max(wanted, 1))
    into[others[chosen]] = True
    sources = (~into).nonzero()[:, 0]
    return MergeBlocks(tokens, into.nonzero()[:, 0], sources, len(sources))
