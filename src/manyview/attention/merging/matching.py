"""Bipartite token matching within blocks: each source token with its most similar destination."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ...kernels import fused
from .blocks import MergeBlocks, MergePlan

_SCORES_AT_ONCE = 1 << 26


_SCORES_CPU = 1 << 21  # on CPUs small chunks that fit the cache are faster


@torch.no_grad()
def match(
    features: Float[Tensor, "batch heads tokens dim"],
    plan: MergePlan,
    normalised: bool = False,
    kernels: str = "plain",
) -> Int[Tensor, "batch heads tokens"]:
    """Slot of every token: each source's is that of its block's most similar destination (cosine).

    Tokens in no block and not alone get the number of slots. `normalised` features are unit vectors already.
    Where nothing is selected and features are as narrow as a head, a kernel keeps the scores out of memory.
    """
    if fused(kernels, features, part="merging") and plan.fusable and not normalised:
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
            selects = blocks.merged < len(blocks.sources)
            best, score = _best(features, where[:, sources], where[:, into], normalised, selects)
            slot[..., where[:, sources]] = first + _places(best, score, blocks)
        start += len(where) * blocks.slots
    return slot


def _places(best: Tensor, score: Tensor, blocks: MergeBlocks) -> Tensor:
    """Slots within a block: the best `merged` sources take their match's, the others get new ones."""
    if blocks.merged == len(blocks.sources):
        return best
    order = score.argsort(dim=-1, descending=True, stable=True)
    rank = torch.empty_like(order).scatter_(
        -1, order, torch.arange(order.shape[-1], device=order.device).expand_as(order)
    )
    return torch.where(rank < blocks.merged, best, len(blocks.into) + rank - blocks.merged)


def _best(
    features: Tensor, sources: Tensor, into: Tensor, normalised: bool, cosines: bool
) -> tuple[Tensor, Tensor]:
    """[batch, heads, blocks, sources]: best of `into` and its cosine, a few scores at a time.

    Without `cosines` the scores of a source are as many times larger as it is long: its best is the same, and
    sources need no passes of their own.
    """
    batch, heads = features.shape[:2]
    budget = _SCORES_CPU if features.device.type == "cpu" else _SCORES_AT_ONCE
    rows = max(1, budget // (batch * heads * into.shape[1]))  # sources compared with all destinations at once
    together = max(1, rows // sources.shape[1])
    unit = (lambda x: x) if normalised else _unit
    asked = unit if cosines else (lambda x: x)
    indices, scores = [], []
    for of_blocks, into_blocks in zip(sources.split(together), into.split(together), strict=True):
        goals = unit(features[:, :, into_blocks])
        for part in of_blocks.split(min(rows, sources.shape[1]), dim=1):
            score, index = (asked(features[:, :, part]) @ goals.transpose(-1, -2)).max(-1)
            indices.append(index)
            scores.append(score)
    pieces = -(-sources.shape[1] // min(rows, sources.shape[1]))
    return tuple(  # type: ignore[return-value]
        torch.cat([torch.cat(x[i : i + pieces], 3) for i in range(0, len(x), pieces)], 2)
        for x in (indices, scores)
    )


def _unit(x: Tensor) -> Tensor:
    return F.normalize(x.to(torch.promote_types(x.dtype, torch.float32)), dim=-1).to(x.dtype)
