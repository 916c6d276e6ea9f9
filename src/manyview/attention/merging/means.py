"""Means of merged tokens, and outputs copied back to the tokens they were merged from."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
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
    members = None if adds_rows(*both) else by_slot(slot, plan.slots)
    means, counts = means_of(x, slot, plan.slots, members)
    if beside is None:
        return means, None, counts
    return means, means_of(beside, slot, plan.slots, members)[0], counts


@dataclasses.dataclass(frozen=True)
class SlotMembers:
    """Tokens in the order of their slots: those of slot i are `tokens[starts[i] : starts[i + 1]]`."""

    tokens: Int[Tensor, "batch lists tokens"]
    starts: Int[Tensor, "batch lists ends"]

    @property
    def counts(self) -> Int[Tensor, "batch lists slots"]:
        """How many tokens a slot has."""
        return self.starts.diff(dim=-1)


def by_slot(slot: Int[Tensor, "batch lists tokens"], slots: int) -> SlotMembers:
    """The members of each of `slots` slots; every token has one of them."""
    ordered, tokens = slot.sort(dim=-1, stable=True)
    edges = torch.arange(slots + 1, device=slot.device).expand(*slot.shape[:2], -1).contiguous()
    return SlotMembers(tokens, torch.searchsorted(ordered, edges))


def means_of(
    x: Float[Tensor, "batch heads tokens dim"],
    slot: Int[Tensor, "batch _ tokens"],
    slots: int,
    members: SlotMembers | None = None,
) -> tuple[Float[Tensor, "batch heads slots dim"], Float[Tensor, "batch _ slots"]]:
    """Means of the tokens of each slot (zeros where it has none) and how many they are; every token has one.

    On CPUs and with gradients rows are added up in single precision or better. Elsewhere rows are read in
    the order of their slots (`members`, made here if not given), each once and in its own precision.
    """
    if not adds_rows(x):
        members = by_slot(slot, slots) if members is None else members
        return sorted_means(x, members), members.counts.to(torch.float32)
    sums, counts = pool(x, slot, slots)
    return (sums / counts[..., None].clamp(min=1)).to(x.dtype), counts


def adds_rows(*tensors: Tensor) -> bool:
    """Whether means of such rows are added up, as on CPUs, or read in the order of their slots."""
    differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in tensors)
    return differentiable or any(x.device.type == "cpu" or x.dtype == torch.float64 for x in tensors)


def sorted_means(
    x: Float[Tensor, "batch heads tokens dim"], members: SlotMembers
) -> Float[Tensor, "batch heads slots dim"]:
    """Means of the rows of each slot, summed in single precision, always in the same order."""
    batch, heads, tokens, dim = x.shape
    lists, slots = members.tokens.shape[1], members.starts.shape[-1] - 1
    by_token = x.transpose(1, 2)
    if not (x.is_contiguous() or by_token.is_contiguous()):
        x, by_token = x.contiguous(), x.contiguous().transpose(1, 2)
    device = x.device
    if lists == 1 and by_token.is_contiguous():  # rows of all heads together
        rows, places = by_token.flatten(2).flatten(0, 1), members.tokens
        places = places + torch.arange(batch, device=device)[:, None, None] * tokens
    else:
        rows = (x if x.is_contiguous() else by_token).reshape(-1, dim)
        steps = [x.stride(axis) // dim for axis in range(3)]
        first = torch.arange(batch, device=device)[:, None] * steps[0]
        first = first + torch.arange(heads, device=device) * steps[1]
        places = members.tokens.expand(-1, heads, -1) * steps[2] + first[..., None]
    starts = members.starts[..., :-1].expand(-1, places.shape[1], -1)
    starts = starts + torch.arange(batch * places.shape[1], device=device).view(batch, -1, 1) * tokens
    means = F.embedding_bag(places.flatten(), rows, starts.flatten(), mode="mean")
    if places.shape[1] == heads:
        return means.view(batch, heads, slots, dim)
    return means.view(batch, slots, heads, dim).transpose(1, 2)


def copy_back(
    short: Float[Tensor, "batch heads slots dim"],
    slot: Int[Tensor, "batch _ tokens"],
    kernels: str = "plain",
) -> Float[Tensor, "batch heads tokens dim"]:
    """The slot of every token; in memory [batch, tokens, heads, dim], as the output projection reads it."""
    if fused(kernels, short, slot, part="merging"):
        from ...kernels import merge, merge_outliers  # import Triton

        if merge.takes(short):
            return merge_outliers.copy_rows(short, slot)
    batch, heads, slots, dim = short.shape
    if slot.shape[1] == 1:  # rows of all heads together
        rows = short.transpose(1, 2).reshape(batch * slots, heads * dim)
        copied = rows[flat_places(slot, slots)].view(batch, -1, heads, dim)
    else:
        first = torch.arange(batch * heads, device=slot.device).view(batch, 1, heads) * slots
        copied = short.reshape(-1, dim)[slot.transpose(1, 2) + first]
    return copied.transpose(1, 2)


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
