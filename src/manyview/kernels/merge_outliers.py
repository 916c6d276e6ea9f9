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


def distances(
    x: Float[Tensor, "batch heads tokens dim"], slot: Int[Tensor, "batch heads tokens"], table: BlockTable
) -> Float[Tensor, "batch heads tokens"]:
    """Squared distance of every token from its slot's mean; -1 for tokens in no block."""
    x = dense_rows(x)
    means, _, _ = slot_means(x, None, slot, table, torch.float32)
    distance = torch.empty(x.shape[:-1], dtype=torch.float32, device=x.device)
    _measure(x, means, slot, len(table.alone), distance)
    return distance


@operator("mean_distance(Tensor x, Tensor means, Tensor slot, int single, Tensor(a!) out)")
def _measure(x: Tensor, means: Tensor, slot: Tensor, single: int, distance: Tensor) -> None:
    batch, heads, tokens, dim = x.shape
    _distance[(triton.cdiv(tokens, _TOKENS), batch * heads)](
        *(x, means, slot, distance, *x.stride()[:3], means.stride(1), heads, tokens, single),
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
