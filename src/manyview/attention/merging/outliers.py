"""Queries far from their merged query are taken out of it again (HTTM, arXiv 2511.21317, section 3)."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...distributed.ranks import Ranks
from ...kernels import fused
from .blocks import MergePlan
from .means import copy_back, flat_places, pool


def separate_outliers(
    q: Float[Tensor, "batch heads tokens dim"],
    slot: Int[Tensor, "batch heads tokens"],
    plan: MergePlan,
    many: int,
    kernels: str = "plain",
    ranks: Ranks | None = None,
) -> tuple[
    Float[Tensor, "1 1 short dim"],
    Int[Tensor, "batch heads tokens"],
    Int[Tensor, "batch heads"],
]:
    """Short queries, the place of every token in them, and lengths, with the `many` farthest taken out.

    Short queries follow head after head: its means, then its outliers in order, as many as `lengths` says.
    Outliers are those of all heads of a batch element together, so that the sum of the lengths is known
    without asking the device. For blocks whose sources are all merged; tokens in no block are never outliers.
    With `ranks` the tokens are those of this rank's frames, and `many` are taken out of those of all ranks.
    """
    fuse = fused(kernels, q, part="merging") and plan.fusable
    if fuse:
        from ...kernels import merge  # imports Triton

        fuse = merge.takes(q)
    return separated(q, slot, plan, many, fuse, ranks)


def separated(
    q: Float[Tensor, "batch heads tokens dim"],
    slot: Int[Tensor, "batch heads tokens"],
    plan: MergePlan,
    many: int,
    fuse: bool,
    ranks: Ranks | None = None,
) -> tuple[
    Float[Tensor, "1 1 short dim"],
    Int[Tensor, "batch heads tokens"],
    Int[Tensor, "batch heads"],
]:
    """`separate_outliers`, with kernels for distances and means if `fuse` says so."""
    if fuse:
        from ...kernels import merge_means, merge_outliers  # import Triton
    batch, heads, tokens, dim = q.shape
    slots, single = plan.slots, len(plan.alone)
    sums, counts = (None, None) if fuse else pool(q, slot, slots)
    with torch.no_grad():
        if fuse:
            distance = merge_outliers.distances(q, slot, plan.table(q.device))
        else:
            assert sums is not None and counts is not None
            means = copy_back(sums / counts[..., None], slot)
            distance = (q - means).square().sum(-1).masked_fill_(slot < single, -1.0)
            del means
        chosen = _farthest(distance, many, single, ranks)
        row, token = chosen // tokens, chosen % tokens  # a row is a head of a batch element
        out = torch.zeros(batch * heads, dtype=torch.long, device=q.device)
        lengths = slots + out.scatter_add_(0, row, torch.ones_like(row))
        starts = (lengths.cumsum(0) - lengths).view(batch, heads, 1)
        # Those before an outlier: the means of heads up to its own, and the outliers before it.
        alone = (row + 1) * slots + torch.arange(len(chosen), device=q.device)
        places = (slot + starts).flatten().scatter_(0, chosen, alone).view_as(slot)
    leaving = q[row // heads, row % heads, token]
    if sums is None or counts is None:
        left = torch.zeros(batch * heads * tokens, dtype=torch.bool, device=q.device)
        left = left.scatter_(0, chosen, True).view_as(slot)
        means = merge_means.slot_means(q, None, slot, plan.table(q.device), q.dtype, left)[0]
    else:
        flat = flat_places(slot, slots)[chosen]
        sums = sums.reshape(-1, dim).index_add(0, flat, -leaving.to(sums.dtype))
        stay = counts.reshape(-1).index_add(0, flat, -torch.ones_like(flat, dtype=counts.dtype))
        # Slots without members are unused.
        means = torch.where(stay[..., None] > 0.5, sums / stay.clamp(min=1)[..., None], sums.new_zeros(()))
    short = q.new_empty(batch * heads * slots + len(chosen), dim)
    short[(starts + torch.arange(slots, device=q.device)).flatten()] = means.reshape(-1, dim).to(q.dtype)
    short[alone] = leaving
    return short[None, None], places, lengths.view(batch, heads)


def _farthest(
    distance: Float[Tensor, "batch heads tokens"], many: int, single: int, ranks: Ranks | None
) -> Int[Tensor, " chosen"]:
    """Places in the flat `distance` of the `many` largest of each batch element, in order.

    With `ranks` the largest are those of all ranks, and the places are this rank's. `single` tokens of each
    head are never among them.
    """
    batch, heads, tokens = distance.shape
    rows = torch.arange(batch, device=distance.device)[:, None]
    if ranks is None:
        many = min(many, heads * (tokens - single))
        chosen = distance.flatten(1).topk(many, sorted=False).indices.sort(1).values
        return (chosen + rows * (heads * tokens)).flatten()
    split, single_each = ranks.split, single // ranks.split.count
    everyone = tokens // split.count * split.frames
    first = tokens // split.count * split.first
    distance = ranks.gather(distance, 2).wait()
    many = min(many, heads * (everyone - single_each * split.frames))
    chosen = distance.flatten(1).topk(many, sorted=False).indices.sort(1).values
    head, token = chosen // everyone, chosen % everyone - first
    own: Tensor = ((rows * heads + head) * tokens + token)[(token >= 0) & (token < tokens)]
    return own


def copy_packed(
    short: Float[Tensor, "1 1 short dim"], places: Int[Tensor, "batch heads tokens"], kernels: str = "plain"
) -> Float[Tensor, "batch heads tokens dim"]:
    """The row at each token's place in queries of head after head; in memory as `copy_back` leaves it."""
    if fused(kernels, short, places, part="merging"):
        from ...kernels import merge, merge_outliers  # import Triton

        if merge.takes(short):
            return merge_outliers.copy_rows(short.expand(*places.shape[:2], -1, -1), places)
    return short[0, 0][places.transpose(1, 2)].transpose(1, 2)
