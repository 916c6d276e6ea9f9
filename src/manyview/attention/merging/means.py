"""Means of merged tokens, and outputs copied back to the tokens they were merged from."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...kernels import fused
from .blocks import MergePlan


def slot_means(
    x: Float[Tensor, "batch heads tokens dim"],
    beside: Float[Tensor, "batch heads tokens dim"] | None,
    slot: Int[Tensor, "batch heads tokens"],
    plan: MergePlan,
    kernels: str = "plain",
) -> tuple[
    Float[Tensor, "batch heads slots dim"],
    Float[Tensor, "batch heads slots dim"] | None,
    Float[Tensor, "batch heads slots"],
]:
    """Means of the tokens of each slot, of `x` and of `beside`, and how many tokens they are.

    For blocks whose sources are all merged. Gradients flow to both.
    """
    both = (x,) if beside is None else (x, beside)
    if fused(kernels, *both, part="merging") and plan.fusable:
        from ...kernels import merge, merge_means  # import Triton

        if merge.takes(*both):
            return merge_means.slot_means(x, beside, slot, plan.table(x.device), x.dtype)
    sums, counts = pool(x, slot, plan.slots)
    means = (sums / counts[..., None]).to(x.dtype)
    if beside is None:
        return means, None, counts
    return means, (pool(beside, slot, plan.slots)[0] / counts[..., None]).to(beside.dtype), counts


def copy_back(
    short: Float[Tensor, "batch heads slots dim"],
    slot: Int[Tensor, "batch _ tokens"],
    kernels: str = "plain",
) -> Float[Tensor, "batch heads tokens dim"]:
    """The slot of every token."""
    if fused(kernels, short, slot, part="merging"):
        from ...kernels import merge, merge_outliers  # import Triton

        if merge.takes(short):
            return merge_outliers.copy_rows(short, slot)
    batch, heads, slots, dim = short.shape
    slot = slot.expand(batch, heads, slot.shape[-1])
    return short.reshape(-1, dim)[flat_places(slot, slots)].view(batch, heads, -1, dim)


def pool(
    x: Float[Tensor, "batch heads tokens dim"], slot: Int[Tensor, "batch _ tokens"], slots: int
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


def flat_places(slot: Int[Tensor, "batch heads tokens"], slots: int) -> Int[Tensor, " all"]:
    """Slots numbered through all batch elements and heads."""
    batch, heads, _ = slot.shape
    offset = torch.arange(batch * heads, device=slot.device).view(batch, heads, 1) * slots
    return (slot + offset).flatten()
