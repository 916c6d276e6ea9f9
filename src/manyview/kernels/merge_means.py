"""Means of the tokens of every slot, each summed in one program as a product with ones and zeros.

That costs a matrix product as large as the matching's on the tensor cores, and always adds in the same order;
adding rows into memory may be faster and comes out differently each time.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .choice import interpreted
from .merge import dense_rows
from .merge_table import BlockTable
from .operators import operator
from .precision import dot, rounded

_TOKENS = 64  # slots of a tile, and members that it is compared with at once


@torch.no_grad()
def slot_means(
    x: Float[Tensor, "batch heads tokens dim"],
    beside: Float[Tensor, "batch heads tokens dim"] | None,
    slot: Int[Tensor, "batch heads tokens"],
    table: BlockTable,
    dtype: torch.dtype,
    left: Bool[Tensor, "batch heads tokens"] | None = None,
) -> tuple[
    Float[Tensor, "batch heads short dim"],
    Float[Tensor, "batch heads short dim"] | None,
    Float[Tensor, "batch heads slots"],
]:
    """Means of the members of every slot, of `x` and of what lies `beside` it, and the numbers of members.

    Tokens that `left` are no members; a slot without members gets zeros.
    """
    batch, heads, _, dim = x.shape
    x, other = dense_rows(x), x if beside is None else dense_rows(beside)
    short = [
        x.new_empty(batch, heads, table.slots, dim, dtype=dtype)
        for _ in range(2 if beside is not None else 1)
    ]
    count = torch.empty(batch, heads, table.slots, dtype=torch.float32, device=x.device)
    count[..., : len(table.alone)] = 1
    for means, values in zip(short, (x, other)):
        means[:, :, : len(table.alone)] = values[:, :, table.alone].to(dtype)
    other_short = short[1] if beside is not None else None
    if len(table.blocks):
        _average(
            *(x, None if beside is None else other, slot, None if left is None else left.view(torch.int8)),
            *(table.sources, table.into, table.blocks, table.most_into),
            *(short[0], other_short, count),
        )
    return short[0], other_short, count


@operator(
    "slot_means(Tensor x, Tensor? beside, Tensor slot, Tensor? left, Tensor sources, Tensor into, "
    "Tensor blocks, int most_into, Tensor(a!) out, Tensor(b!)? out_beside, Tensor(c!) out_count)"
)
def _average(
    x: Tensor,
    beside: Tensor | None,
    slot: Tensor,
    left: Tensor | None,
    sources: Tensor,
    into: Tensor,
    blocks: Tensor,
    most_into: int,
    short: Tensor,
    beside_short: Tensor | None,
    count: Tensor,
) -> None:
    batch, heads, _, dim = x.shape
    other = x if beside is None else beside
    _slot_means[(triton.cdiv(most_into, _TOKENS), len(blocks), batch * heads)](
        *(x, other, short, short if beside_short is None else beside_short, count),
        *(slot, slot if left is None else left, sources, into, blocks),
        *(*x.stride()[:3], *other.stride()[:3], *short.stride()[:2], *slot.stride()[:2]),
        *(heads, count.shape[-1]),
        DIM=dim,
        TILE=_TOKENS,
        STEP=_TOKENS if beside is None else _TOKENS // 2,  # two sums leave registers for so many
        BESIDE=beside is not None,
        LEFT=left is not None,
        INTERPRETED=interpreted(),
        num_warps=8 if dim == 128 or x.dtype == torch.float32 else 4,
        num_stages=2 if x.dtype == torch.float32 else 3,
    )


@triton.jit(do_not_specialize=["short_batch", "short_head", "slot_batch", "slot_head", "heads", "slots"])
def _slot_means(
    x, other, short, other_short, count, slot, left, sources, into, blocks,
    x_batch, x_head, x_token, other_batch, other_head, other_token, short_batch, short_head, slot_batch,
    slot_head,
    heads, slots,
    DIM: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, BESIDE: tl.constexpr, LEFT: tl.constexpr,
    INTERPRETED: tl.constexpr,
):  # fmt: skip
    row = blocks + tl.program_id(1) * 5
    first_source, many_sources = tl.load(row), tl.load(row + 1)
    first_into, many_into, first_slot = tl.load(row + 2), tl.load(row + 3), tl.load(row + 4)
    start = tl.program_id(0) * TILE
    if start >= many_into:
        return
    pair = tl.program_id(2)
    batch, head = (pair // heads).to(tl.int64), (pair % heads).to(tl.int64)
    x += batch * x_batch + head * x_head
    other += batch * other_batch + head * other_head
    slot += batch * slot_batch + head * slot_head
    left += batch * slot_batch + head * slot_head
    takes, step, dim = tl.arange(0, TILE), tl.arange(0, STEP), tl.arange(0, DIM)
    real = start + takes < many_into
    mine = first_slot + start + takes
    own = tl.load(into + first_into + start + takes, mask=real, other=0).to(tl.int64)
    stays = real
    if LEFT:
        stays = real & (tl.load(left + own, mask=real, other=0) == 0)
    members = tl.where(stays, 1.0, 0.0)
    sums = tl.load(x + own[:, None] * x_token + dim[None, :], mask=stays[:, None], other=0.0).to(tl.float32)
    if BESIDE:
        other_sums = tl.load(
            other + own[:, None] * other_token + dim[None, :], mask=stays[:, None], other=0.0
        )
        other_sums = other_sums.to(tl.float32)
    for at in range(0, many_sources, STEP):
        there = at + step < many_sources
        source = tl.load(sources + first_source + at + step, mask=there, other=0).to(tl.int64)
        theirs = tl.load(slot + source, mask=there, other=-1).to(tl.int32)
        if LEFT:
            theirs = tl.where(tl.load(left + source, mask=there, other=0) == 0, theirs, -1)
        joins = tl.where(theirs[None, :] == mine[:, None], 1.0, 0.0)
        members += tl.sum(joins, 1)
        joins = joins.to(x.dtype.element_ty)  # ones and zeros are exact in any precision
        rows = tl.load(x + source[:, None] * x_token + dim[None, :], mask=there[:, None], other=0.0)
        sums += dot(joins, rows, INTERPRETED)
        if BESIDE:
            rows = tl.load(
                other + source[:, None] * other_token + dim[None, :], mask=there[:, None], other=0.0
            )
            other_sums += dot(joins, rows, INTERPRETED)
    many = tl.maximum(members, 1.0)[:, None]
    at_slot = batch * short_batch + head * short_head + mine.to(tl.int64)[:, None] * DIM + dim[None, :]
    means = rounded(sums / many, short.dtype.element_ty, INTERPRETED)
    tl.store(short + at_slot, means, mask=real[:, None])
    if BESIDE:
        means = rounded(other_sums / many, short.dtype.element_ty, INTERPRETED)
        tl.store(other_short + at_slot, means, mask=real[:, None])
    tl.store(count + pair.to(tl.int64) * slots + mine, members, mask=real)
