"""Merging tokens that look alike: who joins whom inside a block, means of the joined, outputs copied back."""

from __future__ import annotations

import dataclasses
import functools

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ...kernels import fused
from ...kernels.merge_table import BlockTable, block_table
from ..index_cache import for_later_calls

_SCORES_AT_ONCE = 1 << 26
_SCORES_CPU = 1 << 21  # there, what leaves the cache costs more than small pieces do


@dataclasses.dataclass(frozen=True)
class MergeBlocks:
    """Blocks of equal shape: tokens may join others of their own block only.

    `tokens` are places in the sequence; `into` and `sources` are places within a block: tokens that others
    may join, and tokens that look for one. The `merged` sources with the best match join, the other
    sources stay alone. `into` and `sources` together are all places of the block.
    """

    tokens: Int[Tensor, "blocks size"]
    into: Int[Tensor, " into"]
    sources: Int[Tensor, " sources"]
    merged: int

    @property
    def slots(self) -> int:
        """Tokens of a block that remain."""
        return len(self.into) + len(self.sources) - self.merged


@dataclasses.dataclass(frozen=True)
class MergePlan:
    """A sequence cut into blocks; tokens in no block (`alone`) pass through first, in order."""

    alone: Int[Tensor, " alone"]
    blocks: tuple[MergeBlocks, ...]

    @property
    def slots(self) -> int:
        """Length of the short sequence."""
        return len(self.alone) + sum(len(b.tokens) * b.slots for b in self.blocks)

    def matching_flops(self, dim: int) -> float:
        """Two per multiply-add of the similarities, over all heads together of width `dim`."""
        return sum(2.0 * len(b.tokens) * len(b.into) * len(b.sources) * dim for b in self.blocks)

    @property
    def fusable(self) -> bool:
        """Whether kernels take it: every source joins somebody, and blocks fit one dimension of a launch."""
        all_join = all(b.merged == len(b.sources) for b in self.blocks)
        return all_join and sum(len(b.tokens) for b in self.blocks) < 65_536

    def table(self, device: torch.device) -> BlockTable:
        """The blocks as kernels read them, made once a device."""
        if device not in self._tables:
            with for_later_calls():
                parts = [(b.tokens, b.into, b.sources) for b in self.blocks]
                self._tables[device] = block_table(self.alone, parts).to(device)
        return self._tables[device]

    @functools.cached_property
    def _tables(self) -> dict[torch.device, BlockTable]:
        return {}


@torch.no_grad()
def match(
    features: Float[Tensor, "batch heads tokens dim"], plan: MergePlan, normalised: bool = False
) -> Int[Tensor, "batch heads tokens"]:
    """Slot of every token: each source joins the most similar token (cosine) it may join in its block.

    Tokens in no block and not alone get the number of slots. `normalised` features are unit vectors already.
    Where nothing is selected and features are as narrow as a head, a kernel keeps the scores out of memory.
    """
    if fused(features) and plan.fusable and not normalised:
        from ...kernels import merge as kernel  # imports Triton

        if kernel.takes(features):
            return kernel.join_most_similar(features, plan.table(features.device))
    batch, heads, tokens, _ = features.shape
    device = features.device
    slot = torch.full((batch, heads, tokens), plan.slots, device=device)
    slot[..., plan.alone.to(device)] = torch.arange(len(plan.alone), device=device)
    start = len(plan.alone)
    for blocks in plan.blocks:
        where, into, sources = (x.to(device) for x in (blocks.tokens, blocks.into, blocks.sources))
        first = start + torch.arange(len(where), device=device)[:, None] * blocks.slots
        slot[..., where[:, into]] = first + torch.arange(len(into), device=device)
        if len(sources):
            best, score = _best(features, where[:, sources], where[:, into], normalised)
            slot[..., where[:, sources]] = first + _places(best, score, blocks)
        start += len(where) * blocks.slots
    return slot


def _places(best: Tensor, score: Tensor, blocks: MergeBlocks) -> Tensor:
    """Slots within a block: the best `merged` sources take their match's, the others new ones."""
    if blocks.merged == len(blocks.sources):
        return best
    order = score.argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )
    return torch.where(rank < blocks.merged, best, len(blocks.into) + rank - blocks.merged)


def _best(features: Tensor, sources: Tensor, into: Tensor, normalised: bool) -> tuple[Tensor, Tensor]:
    """[batch, heads, blocks, sources]: nearest of `into` and its cosine, a few scores at a time."""
    batch, heads = features.shape[:2]
    budget = _SCORES_CPU if features.device.type == "cpu" else _SCORES_AT_ONCE
    rows = max(1, budget // (batch * heads * into.shape[1]))  # sources that meet all of `into` at once
    together = max(1, rows // sources.shape[1])
    unit = (lambda x: x) if normalised else _unit
    indices, scores = [], []
    for of_blocks, into_blocks in zip(sources.split(together), into.split(together), strict=True):
        goals = unit(features[:, :, into_blocks])
        for part in of_blocks.split(min(rows, sources.shape[1]), dim=1):
            asked = unit(features[:, :, part])
            score, index = (asked @ goals.transpose(-1, -2)).max(-1)
            indices.append(index)
            scores.append(score)
    pieces = -(-sources.shape[1] // min(rows, sources.shape[1]))
    return tuple(  # type: ignore[return-value]
        torch.cat([torch.cat(x[i : i + pieces], 3) for i in range(0, len(x), pieces)], 2)
        for x in (indices, scores)
    )


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1).to(x.dtype)


def flat_places(slot: Int[Tensor, "batch heads tokens"], slots: int) -> Int[Tensor, " all"]:
    """Slots numbered through all batch elements and heads."""
    batch, heads, _ = slot.shape
    offset = torch.arange(batch * heads, device=slot.device).view(batch, heads, 1) * slots
    return (slot + offset).flatten()


def pool(
    x: Float[Tensor, "batch heads tokens dim"], slot: Int[Tensor, "batch heads tokens"], slots: int
) -> tuple[Float[Tensor, "batch heads slots dim"], Float[Tensor, "batch heads slots"]]:
    """Sums (single precision or better) and counts of the tokens of each slot. Gradients flow to `x`."""
    batch, heads, tokens, dim = x.shape
    slot = slot.expand(batch, heads, tokens)
    places = flat_places(slot, slots)
    wide = torch.promote_types(x.dtype, torch.float32)
    sums = torch.zeros(batch * heads * slots, dim, dtype=wide, device=x.device)
    sums = sums.index_add(0, places, x.reshape(-1, dim).to(wide))
    counts = torch.zeros(batch * heads * slots, dtype=wide, device=x.device)
    counts = counts.index_add(0, places, torch.ones_like(places, dtype=wide))
    return sums.view(batch, heads, slots, dim), counts.view(batch, heads, slots)


def slot_means(
    x: Float[Tensor, "batch heads tokens dim"],
    beside: Float[Tensor, "batch heads tokens dim"] | None,
    slot: Int[Tensor, "batch heads tokens"],
    plan: MergePlan,
) -> tuple[
    Float[Tensor, "batch heads slots dim"],
    Float[Tensor, "batch heads slots dim"] | None,
    Float[Tensor, "batch heads slots"],
]:
    """Means of the tokens of each slot, of `x` and of what lies `beside` it, and how many tokens they are.

    For blocks whose sources all join. Gradients flow to both.
    """
    both = (x,) if beside is None else (x, beside)
    if fused(*both) and plan.fusable:
        from ...kernels import merge, merge_means  # import Triton

        if merge.takes(*both):
            return merge_means.slot_means(x, beside, slot, plan.table(x.device), x.dtype)
    sums, counts = pool(x, slot, plan.slots)
    means = (sums / counts[..., None]).to(x.dtype)
    if beside is None:
        return means, None, counts
    return means, (pool(beside, slot, plan.slots)[0] / counts[..., None]).to(beside.dtype), counts


def copy_back(
    short: Float[Tensor, "batch heads slots dim"], slot: Int[Tensor, "batch heads tokens"]
) -> Float[Tensor, "batch heads tokens dim"]:
    """Every token's own slot."""
    if fused(short, slot):
        from ...kernels import merge, merge_outliers  # import Triton

        if merge.takes(short):
            return merge_outliers.copy_rows(short, slot)
    batch, heads, slots, dim = short.shape
    slot = slot.expand(batch, heads, slot.shape[-1])
    return short.reshape(-1, dim)[flat_places(slot, slots)].view(batch, heads, -1, dim)
