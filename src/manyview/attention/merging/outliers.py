"""Queries far from their merged query are taken out of it again (HTTM, arXiv 2511.21317, section 3)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...kernels import fused
from .blocks import MergePlan
from .means import copy_back, flat_places, pool


def separate_outliers(
    q: Float[Tensor, "batch heads tokens dim"],
    slot: Int[Tensor, "batch heads tokens"],
    plan: MergePlan,
    many: int,
    kernels: str = "plain",
) -> tuple[
    Float[Tensor, "batch heads short dim"],
    Int[Tensor, "batch heads tokens"],
    Int[Tensor, "batch heads"],
]:
    """Short queries, the slot of every token, and lengths, with the `many` farthest of all heads taken out.

    Short queries are the means, then each head's outliers in order, then (up to the longest head) padding
    beyond its length. For blocks whose sources are all merged; tokens in no block are never outliers.
    """
    if fused(kernels, q, part="merging") and plan.fusable:
        from ...kernels import merge, merge_outliers  # import Triton

        if merge.takes(q):
            return merge_outliers.leave_far_means(q, slot, plan.table(q.device), many)
    batch, heads, tokens, dim = q.shape
    slots, single = plan.slots, len(plan.alone)
    sums, counts = pool(q, slot, slots)
    with torch.no_grad():
        distance = (q.to(sums.dtype) - copy_back(sums / counts[..., None], slot, kernels)).square().sum(-1)
        distance.masked_fill_(slot < single, -1.0)
        chosen = distance.flatten(1).topk(min(many, heads * tokens), sorted=False).indices
        out = torch.zeros(batch, heads * tokens, dtype=torch.bool, device=q.device)
        out = out.scatter(1, chosen, True).view(batch, heads, tokens) & (slot >= single)
        lengths = out.sum(-1)
        longest = int(lengths.max()) if q.device.type != "meta" else -(-many // heads)
        rank = out.cumsum(-1) - 1
        places = torch.where(out, slots + rank, slot)
        which = torch.zeros(batch, heads, longest + 1, dtype=torch.long, device=q.device)
        # Tokens that are no outliers are written to a last column, which is cut off.
        token = torch.arange(tokens, device=q.device).expand(batch, heads, tokens)
        which = which.scatter(2, torch.where(out, rank, longest), token)[..., :longest]
        real = torch.arange(longest, device=q.device) < lengths[..., None]
    leaving = q.gather(2, which[..., None].expand(-1, -1, -1, dim))
    left_slot = slot.gather(2, which)
    moved = torch.where(real[..., None], leaving, leaving.new_zeros(())).to(sums.dtype)
    flat = flat_places(left_slot, slots)
    sums = sums.reshape(-1, dim).index_add(0, flat, -moved.reshape(-1, dim)).view_as(sums)
    stay = counts.reshape(-1).index_add(0, flat, -real.to(counts.dtype).flatten()).view_as(counts)
    # Slots without members are unused.
    means = torch.where(stay[..., None] > 0.5, sums / stay.clamp(min=1)[..., None], sums.new_zeros(()))
    return torch.cat([means.to(q.dtype), leaving], 2), places, slots + lengths
