"""Bipartite token matching within blocks, head by head, without scores in memory (HTTM, arXiv 2511.21317, 3).

One launch lays out unit vectors of the destinations; one compares a tile of sources with a block of those and
keeps the largest cosine only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from .choice import interpreted
from .merge_table import BlockTable
from .operators import operator
from .precision import dot, rounded

_DTYPES = (torch.bfloat16, torch.float16, torch.float32)
_TOKENS = 64  # destinations that a tile of sources is compared with at once


def takes(*tensors: Tensor) -> bool:
    """Whether the kernels take these heads [batch, heads, tokens, dim]; others run plain operations."""
    first = tensors[0]
    return all(
        x.dtype in _DTYPES
        and x.dtype == first.dtype
        and x.shape == first.shape
        and x.shape[-1] in (16, 32, 64, 128)
        and 0 < x.shape[0] * x.shape[1] < 65_536  # third dimension of a launch
        for x in tensors
    )


@torch.no_grad()
def join_most_similar(
    x: Float[Tensor, "batch heads tokens dim"], table: BlockTable
) -> Int[Tensor, "batch heads tokens"]:
    """Slot of every token: each source takes that of the most similar token (cosine), the first of equals.

    Scores are products with unit vectors in the dtype of `x` and are rounded to it, as in plain operations.
    Tokens outside the table get the number of slots.
    """
    batch, heads, tokens, dim = x.shape
    x = dense_rows(x)
    slot = torch.full((batch, heads, tokens), table.slots, device=x.device)
    slot[..., table.alone] = torch.arange(len(table.alone), device=x.device)
    if not len(table.into):
        return slot
    destinations = x.new_empty(batch * heads, len(table.into), dim)
    _lay_out(x, table.into, len(table.alone), slot, destinations)
    if table.most_sources:
        _match(x, destinations, table.sources, table.blocks, table.most_sources, slot)
    return slot


@operator("unit_destinations(Tensor x, Tensor into, int alone, Tensor(a!) slot, Tensor(b!) out_destinations)")
def _lay_out(x: Tensor, into: Tensor, alone: int, slot: Tensor, destinations: Tensor) -> None:
    batch, heads, _, dim = x.shape
    _unit_destinations[(triton.cdiv(len(into), _TOKENS), batch * heads)](
        *(x, slot, destinations, into, *x.stride()[:3], *slot.stride()[:2]),
        *(heads, len(into), alone),
        DIM=dim,
        STEP=_TOKENS,
        INTERPRETED=interpreted(),
    )


@operator(
    "join_most_similar(Tensor x, Tensor destinations, Tensor sources, Tensor blocks, int most_sources, "
    "Tensor(a!) slot)"
)
def _match(
    x: Tensor, destinations: Tensor, sources: Tensor, blocks: Tensor, most_sources: int, slot: Tensor
) -> None:
    batch, heads, _, dim = x.shape
    tile = 128 if most_sources >= 128 else 16
    _join_most_similar[(triton.cdiv(most_sources, tile), len(blocks), batch * heads)](
        *(x, destinations, slot, sources, blocks),
        *(*x.stride()[:3], *slot.stride()[:2], heads, destinations.shape[1]),
        DIM=dim,
        TILE=tile,
        STEP=_TOKENS,
        INTERPRETED=interpreted(),
        num_warps=8 if dim == 128 else 4,
        num_stages=2 if x.dtype == torch.float32 else 3,
    )


def dense_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


@triton.jit
def _unit(x, INTERPRETED: tl.constexpr):
    wide = x.to(tl.float32)
    length = tl.sqrt(tl.sum(wide * wide, 1))
    return rounded(wide / tl.maximum(length, 1e-12)[:, None], x.dtype, INTERPRETED)


@triton.jit(do_not_specialize=["slot_batch", "slot_head", "heads", "many", "alone"])
def _unit_destinations(
    x, slot, destinations, into,
    x_batch, x_head, x_token, slot_batch, slot_head,
    heads, many, alone,
    DIM: tl.constexpr, STEP: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """Unit vectors of the destinations, side by side for the next kernel; and their slots."""
    pair = tl.program_id(1).to(tl.int64)
    batch, head = pair // heads, pair % heads
    step, dim = tl.program_id(0) * STEP + tl.arange(0, STEP), tl.arange(0, DIM)
    there = step < many
    token = tl.load(into + step, mask=there, other=0).to(tl.int64)
    x += batch * x_batch + head * x_head
    row = tl.load(x + token[:, None] * x_token + dim[None, :], mask=there[:, None], other=0.0)
    at = (pair * many + step.to(tl.int64))[:, None] * DIM + dim[None, :]
    tl.store(destinations + at, _unit(row, INTERPRETED), mask=there[:, None])
    tl.store(slot + batch * slot_batch + head * slot_head + token, (alone + step).to(tl.int64), mask=there)


@triton.jit(do_not_specialize=["slot_batch", "slot_head", "heads", "all_into"])
def _join_most_similar(
    x, destinations, slot, sources, blocks,
    x_batch, x_head, x_token, slot_batch, slot_head,
    heads, all_into,
    DIM: tl.constexpr, TILE: tl.constexpr, STEP: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    row = blocks + tl.program_id(1) * 5
    first_source, many_sources = tl.load(row), tl.load(row + 1)
    first_into, many_into, first_slot = tl.load(row + 2), tl.load(row + 3), tl.load(row + 4)
    start = tl.program_id(0) * TILE
    if start >= many_sources:
        return
    pair = tl.program_id(2).to(tl.int64)
    batch, head = pair // heads, pair % heads
    x += batch * x_batch + head * x_head
    asks, step, dim = tl.arange(0, TILE), tl.arange(0, STEP), tl.arange(0, DIM)
    real = start + asks < many_sources
    source = tl.load(sources + first_source + start + asks, mask=real, other=0).to(tl.int64)
    # Of any length: it scales all of a source's scores alike.
    asking = tl.load(x + source[:, None] * x_token + dim[None, :], mask=real[:, None], other=0.0)
    destination_at = destinations + (pair * all_into + first_into) * DIM + step[:, None] * DIM + dim[None, :]
    best = tl.full([TILE], float("-inf"), tl.float32)
    choice = tl.zeros([TILE], tl.int32)
    for at in range(0, many_into, STEP):
        there = at + step < many_into
        destination = tl.load(destination_at + at * DIM, mask=there[:, None], other=0.0)
        scores = dot(asking, tl.trans(destination), INTERPRETED)
        scores = rounded(scores, x.dtype.element_ty, INTERPRETED).to(tl.float32)
        scores = tl.where(there[None, :], scores, float("-inf"))
        highest, where = tl.max(scores, 1, return_indices=True, return_indices_tie_break_left=True)
        better = highest > best
        choice = tl.where(better, at + where, choice)
        best = tl.where(better, highest, best)
    slot += batch * slot_batch + head * slot_head
    tl.store(slot + source, (first_slot + choice).to(tl.int64), mask=real)
