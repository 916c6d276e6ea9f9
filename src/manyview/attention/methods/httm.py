"""HTTM: every head merges its own queries and its own keys inside blocks of space and time."""

from __future__ import annotations

import dataclasses
import functools
import math
from typing import Literal

import torch
from jaxtyping import Int
from torch import Tensor

from ..global_attention import GlobalAttention
from ..index_cache import for_later_calls
from ..layout import TokenLayout
from ..merging.blocks import MergeBlocks, MergePlan
from ..merging.matching import match
from ..merging.means import copy_back, slot_means
from ..merging.outliers import separate_outliers
from ..protocols import KeySet, LayerInput, QuerySet


@dataclasses.dataclass(frozen=True)
class Blocks:
    """How HTTM cuts the sequence: `space` neighbouring patches (row by row) of `time` consecutive frames.

    The last run of a frame and the last group of frames may be shorter; special tokens are in no block.
    `into` picks the tokens that others join: "even", evenly through a block, or "random" (from a fixed seed).
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
class MergedQueries:
    """A share `ratio` of the patch queries of each head and block joins others, `outliers` leave again.

    The tokens to join are at most 1 - ratio of a block; joined queries are replaced by their mean. The
    share `outliers` of all heads' queries of the layer that lie farthest (Euclidean) from their mean is
    taken out of it exactly and asks alone, so heads differ in length. Outputs are copied to the members.
    Source: HTTM (arXiv 2511.21317), section 3.
    """

    ratio: float = 0.9
    outliers: float = 0.1
    blocks: Blocks = Blocks()

    def __post_init__(self) -> None:
        _check_share("ratio", self.ratio)
        if not 0 <= self.outliers <= 1:
            raise ValueError(f"outliers is a share from 0 to 1, got {self.outliers}")

    def reduce(self, layer: LayerInput) -> QuerySet:
        q = layer.attention.queries(layer.tokens, layer.rotation, layer.piece)
        plan = merge_plan(layer.layout, self.blocks, self.ratio)
        if plan.slots == q.shape[2]:
            return QuerySet(q)
        kernels = layer.run.kernels
        slot = match(q, plan, kernels=kernels)
        if self.outliers == 0:
            short, _, _ = slot_means(q, None, slot, plan, kernels)
            restore = functools.partial(copy_back, slot=slot, kernels=kernels)
            return QuerySet(short, restore, merged=True)
        many = round(self.outliers * (q.shape[1] * (q.shape[2] - len(plan.alone))))
        short, places, lengths = separate_outliers(q, slot, plan, many, kernels)
        restore = functools.partial(copy_back, slot=places, kernels=kernels)
        return QuerySet(short, restore, merged=True, lengths=lengths)

    def count(self, layout: TokenLayout) -> float:
        plan = merge_plan(layout, self.blocks, self.ratio)
        if plan.slots == layout.tokens:
            return layout.tokens
        return plan.slots + self.outliers * layout.frames * layout.patches_per_frame

    def extra(self, layout: TokenLayout, dim: int) -> float:
        plan = merge_plan(layout, self.blocks, self.ratio)
        return 0.0 if plan.slots == layout.tokens else plan.matching_flops(dim)


@dataclasses.dataclass(frozen=True)
class MergedKeys:
    """A share `ratio` of the patch keys of each head and block joins others; values follow their keys.

    `count_bias` times the log of its members is added to the logits of a mean (HTTM: none).
    Source: HTTM (arXiv 2511.21317), section 3.
    """

    ratio: float = 0.7
    count_bias: float = 0.0
    blocks: Blocks = Blocks()

    def __post_init__(self) -> None:
        _check_share("ratio", self.ratio)
        if not math.isfinite(self.count_bias):
            raise ValueError(f"the count bias must be a finite number, got {self.count_bias}")

    def select(self, layer: LayerInput) -> KeySet:
        k, v = layer.attention.keys_values(layer.tokens, layer.rotation, layer.piece)
        plan = merge_plan(layer.layout, self.blocks, self.ratio)
        if plan.slots == k.shape[2]:
            return KeySet(k, v)
        slot = match(k, plan, kernels=layer.run.kernels)
        keys, values, counts = slot_means(k, v, slot, plan, layer.run.kernels)
        assert values is not None
        weight = self.count_bias * counts.log() if self.count_bias else None
        return KeySet(keys, values, weight)

    def count(self, layout: TokenLayout) -> float:
        return merge_plan(layout, self.blocks, self.ratio).slots

    def projected(self, layout: TokenLayout) -> float:
        return layout.tokens

    def extra(self, layout: TokenLayout, dim: int) -> float:
        plan = merge_plan(layout, self.blocks, self.ratio)
        return 0.0 if plan.slots == layout.tokens else plan.matching_flops(dim)


@dataclasses.dataclass(frozen=True)
class Httm:
    """HTTM (arXiv 2511.21317), training-free: see `MergedQueries`, `MergedKeys` and `Blocks`.

    `q`, `kv`: shares that are merged away; `outliers` of the queries leave again. `anchor`: tokens of the
    reference frame join nobody. The paper does not say which tokens of a block others join: `into`.
    """

    q: float = 0.9
    kv: float = 0.7
    outliers: float = 0.1
    space: int = 128
    time: int = 30
    into: Literal["even", "random"] = "even"
    anchor: bool = False
    count_bias: float = 0.0

    def __post_init__(self) -> None:
        self._layer()

    def _layer(self) -> GlobalAttention:
        blocks = Blocks(self.space, self.time, self.into, self.anchor)
        return GlobalAttention(
            MergedQueries(self.q, self.outliers, blocks), MergedKeys(self.kv, self.count_bias, blocks)
        )

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        """One answer per global layer."""
        return (self._layer(),) * depth


def _check_share(name: str, value: float) -> None:
    if not 0 <= value < 1:
        raise ValueError(f"{name} is a share from 0 to below 1, got {value}")


@functools.lru_cache(maxsize=32)
def merge_plan(layout: TokenLayout, cut: Blocks, ratio: float) -> MergePlan:
    """Blocks of a layout, those of equal shape together."""
    with for_later_calls():
        specials = torch.arange(layout.frames)[:, None] * layout.tokens_per_frame
        alone = (specials + torch.arange(layout.special_tokens)).flatten()
        found = []
        whole_runs, rest = divmod(layout.patches_per_frame, cut.space)
        runs = [(0, whole_runs, cut.space), (whole_runs * cut.space, 1, rest)]
        for first, groups, frames in _frame_groups(layout, cut):
            for start, count, length in runs:
                if not (groups and frames and count and length):
                    continue
                patch = layout.special_tokens + start + torch.arange(count * length).view(count, 1, length)
                frame = first + torch.arange(groups * frames).view(groups, 1, frames, 1)
                tokens = (frame * layout.tokens_per_frame + patch).reshape(groups * count, -1)
                whole = None
                if cut.anchor_first and layout.reference_frame is not None:
                    place = layout.reference_frame - first
                    whole = (place, length) if 0 <= place < groups * frames else None
                found.append(_roles(tokens, ratio, cut.into, whole))
        return MergePlan(alone, tuple(found))


def _frame_groups(layout: TokenLayout, cut: Blocks) -> list[tuple[int, int, int]]:
    """(first frame, groups, frames of a group); the group of an anchored frame stands alone."""
    full, rest = divmod(layout.frames, cut.time)
    if not cut.anchor_first or layout.reference_frame is None:
        return [(0, full, cut.time), (full * cut.time, 1, rest)]
    own = layout.reference_frame // cut.time
    groups = [(0, min(own, full), cut.time), (own * cut.time, 1, cut.time if own < full else rest)]
    if own < full:
        groups += [((own + 1) * cut.time, full - own - 1, cut.time), (full * cut.time, 1, rest)]
    return groups


def _roles(
    tokens: Int[Tensor, "blocks size"], ratio: float, choice: str, whole: tuple[int, int] | None
) -> MergeBlocks:
    """`ratio` of a block joins the rest; `whole` (frame of the block, its length) is wholly in the rest."""
    size = tokens.shape[1]
    merged = math.floor(ratio * size + 1e-9)  # 0.7 * 10 is a hair below 7
    always = torch.zeros(size, dtype=torch.bool)
    if whole is not None:
        always[whole[0] * whole[1] : (whole[0] + 1) * whole[1]] = True
    others = (~always).nonzero()[:, 0]
    wanted = max(0, size - merged - int(always.sum()))
    if choice == "random":
        generator = torch.Generator().manual_seed(0)
        chosen = others[torch.randperm(len(others), generator=generator)[:wanted]]
    else:
        chosen = others[(2 * torch.arange(wanted) + 1) * len(others) // (2 * max(wanted, 1))]
    always[chosen] = True
    sources = (~always).nonzero()[:, 0]
    return MergeBlocks(tokens, always.nonzero()[:, 0], sources, len(sources))
