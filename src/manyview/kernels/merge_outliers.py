"""Members far from their mean: their distances, and their move out of it; and outputs copied back to members.

Between the two kernels PyTorch selects: `topk` without sorting is a radix selection over all heads on many
blocks of threads already, and the running count of those who leave is one scan.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from .merge import dense_rows
from .merge_means import slot_means
from .merge_table import BlockTable
from .operators import operator

_TOKENS = 64  # of a program


def leave_far_means(
    x: Float[Tensor, "batch heads tokens dim"],
    slot: Int[Tensor, "batch heads tokens"],
    table: BlockTable,
    many: int,
) -> tuple[
    Float[Tensor, "batch heads short dim"], Int[Tensor, "batch heads tokens"], Int[Tensor, "batch heads"]
]:
    """Short sequence, places and lengths after the `many` farthest of all heads together left their means.

    What they left is averaged anew, so nothing is lost in a difference. Rows after a head's length are zero.
    """
    batch, heads, tokens, _ = x.shape
    x, slots, single = dense_rows(x), table.slots, len(table.alone)
    means, _, _ = slot_means(x, None, slot, table, torch.float32)
    distance = torch.empty(batch, heads, tokens, dtype=torch.float32, device=x.device)
    _measure(x, means, slot, single, distance)
    del means
    chosen = distance.flatten(1).topk(min(many, heads * tokens), sorted=False).indices
    left = torch.zeros(batch, heads * tokens, dtype=torch.bool, device=x.device)
    left = left.scatter_(1, chosen, True).view(batch, heads, tokens) & (slot >= single)
    lengths = left.sum(-1)
    rank = left.cumsum(-1, dtype=torch.int32)
    short, _, _ = slot_means(x, None, slot, table, x.dtype, left, room=int(lengths.max()))
    places = torch.empty_like(slot)
    _move(x, slot, left.view(torch.int8), rank, slots, short, places)
    return short, places, slots + lengths


@operator("mean_distance(Tensor x, Tensor means, Tensor slot, int single, Tensor(a!) out)")
def _measure(x: Tensor, means: Tensor, slot: Tensor, single: int, distance: Tensor) -> None:
    batch, heads, tokens, dim = x.shape
    _distance[(triton.cdiv(tokens, _TOKENS), batch * heads)](
        *(x, means, slot, distance, *x.stride()[:3], means.stride(1), heads, tokens, single),
        DIM=dim,
        TOKENS=_TOKENS,
    )


@operator(
    "move_out(Tensor x, Tensor slot, Tensor left, Tensor rank, int slots, Tensor(a!) short, "
    "Tensor(b!) out_places)"
)
def _move(
    x: Tensor, slot: Tensor, left: Tensor, rank: Tensor, slots: int, short: Tensor, places: Tensor
) -> None:
    batch, heads, tokens, dim = x.shape
    _move_out[(triton.cdiv(tokens, _TOKENS), batch * heads)](
        *(x, short, slot, left, rank, places),
        *(*x.stride()[:3], short.stride(1), heads, tokens, slots),
        DIM=dim,
        TOKENS=_TOKENS,
    )


def copy_rows(
    short: Float[Tensor, "batch heads slots dim"], slot: Int[Tensor, "batch heads tokens"]
) -> Float[Tensor, "batch heads tokens dim"]:
    """Every token's own slot; in memory [batch, tokens, heads, dim], as the output projection reads it."""
    batch, heads, _, dim = short.shape
    tokens = slot.shape[-1]
    short, slot = dense_rows(short), slot.expand(batch, heads, tokens)
    out = short.new_empty(batch, tokens, heads, dim).transpose(1, 2)
    _copy(short, slot, out)
    return out


@operator("copy_rows(Tensor short, Tensor slot, Tensor(a!) out)")
def _copy(short: Tensor, slot: Tensor, out: Tensor) -> None:
    batch, heads, tokens, dim = out.shape
    _copy_rows[(triton.cdiv(tokens, _TOKENS), batch * heads)](
        *(short, slot, out, *short.stride()[:3], *slot.stride(), *out.stride()[:3], heads, tokens),
        DIM=dim,
        TOKENS=_TOKENS,
    )


@triton.jit(do_not_specialize=["short_head", "heads", "tokens", "single"])
def _distance(
    x, means, slot, distance,
    x_batch, x_head, x_token, short_head,
    heads, tokens, single,
    DIM: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(1).to(tl.int64)
    token, dim = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, DIM)
    real = token < tokens
    place = tl.load(slot + pair * tokens + token, mask=real, other=0)
    x_at = x + (pair // heads) * x_batch + (pair % heads) * x_head + (token * x_token)[:, None] + dim[None, :]
    row = tl.load(x_at, mask=real[:, None], other=0.0).to(tl.float32)
    mean = tl.load(
        means + pair * short_head + (place * DIM)[:, None] + dim[None, :], mask=real[:, None], other=0.0
    )
    far = tl.sum((row - mean) * (row - mean), 1)
    tl.store(distance + pair * tokens + token, tl.where(place < single, -1.0, far), mask=real)


@triton.jit(do_not_specialize=["short_head", "heads", "tokens", "slots"])
def _move_out(
    x, short, slot, left, rank, places,
    x_batch, x_head, x_token, short_head,
    heads, tokens, slots,
    DIM: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(1).to(tl.int64)
    token, dim = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, DIM)
    real = token < tokens
    at = pair * tokens + token
    leaves = tl.load(left + at, mask=real, other=0) != 0
    own = slots + tl.load(rank + at, mask=real, other=1).to(tl.int64) - 1
    place = tl.where(leaves, own, tl.load(slot + at, mask=real, other=0))
    tl.store(places + at, place, mask=real)
    x_at = x + (pair // heads) * x_batch + (pair % heads) * x_head + (token * x_token)[:, None] + dim[None, :]
    row = tl.load(x_at, mask=leaves[:, None], other=0.0)
    tl.store(short + pair * short_head + (place * DIM)[:, None] + dim[None, :], row, mask=leaves[:, None])


@triton.jit(do_not_specialize=["short_head", "short_batch", "slot_head", "slot_batch", "heads", "tokens"])
def _copy_rows(
    short, slot, out,
    short_batch, short_head, short_token, slot_batch, slot_head, slot_token, out_batch, out_head,
    out_token,
    heads, tokens,
    DIM: tl.constexpr, TOKENS: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(1).to(tl.int64)
    batch, head = pair // heads, pair % heads
    token, dim = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, DIM)
    real = token < tokens
    place = tl.load(slot + batch * slot_batch + head * slot_head + token * slot_token, mask=real, other=0)
    s_at = short + batch * short_batch + head * short_head + (place * short_token)[:, None] + dim[None, :]
    row = tl.load(s_at, mask=real[:, None], other=0.0)
    o_at = out + batch * out_batch + head * out_head + (token * out_token)[:, None] + dim[None, :]
    tl.store(o_at, row, mask=real[:, None])
