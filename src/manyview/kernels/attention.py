"""Attention whose running softmax starts from a query's self term and adds a log weight to each key.

The plain operations, `attention.softmax.extended.attend_extended`, carry both in extra channels of the head;
here the head keeps its width, and lengths of heads are not read on the host. Source: the online softmax
of FlashAttention (arXiv 2205.14135), started from AVGGT's terms (arXiv 2512.02541).
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from .choice import interpreted
from .precision import dot, rounded

_LOG2_E = tl.constexpr(1 / math.log(2))
_NEVER = tl.constexpr(-30_000.0)  # the logit of hidden keys in the plain operations too
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def takes(q: Tensor, k: Tensor, v: Tensor) -> bool:
    """Whether the kernel takes these shapes and precisions; for others there are the plain operations."""
    dim = q.shape[-1]
    return (
        q.dtype in _DTYPES
        and q.dtype == k.dtype == v.dtype
        and dim in (16, 32, 64, 128)
        and v.shape[-1] == dim
        and q.shape[0] * q.shape[1] < 65_536  # second dimension of a launch
        and q.numel() > 0
        and not torch.is_autocast_enabled(q.device.type)
    )


def attend_terms(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    log_weight: Float[Tensor, "*sizes"] | None = None,
    self_logit: Float[Tensor, "batch heads queries"] | None = None,
    self_value: Float[Tensor, "batch heads queries dim"] | None = None,
    lengths: Int[Tensor, "batch heads"] | None = None,
    key_lengths: Int[Tensor, "batch heads"] | None = None,
) -> Float[Tensor, "batch heads queries dim"]:
    """softmax over {q kᵀ/√d + log_weight} ∪ {self_logit}, applied to {v} ∪ {self_value}.

    Only the first `lengths` queries of a head are computed, the others are zero, and it sees only its first
    `key_lengths` keys. The result lies in memory as [batch, queries, heads, dim], as the output projection
    reads it.
    """
    batch, heads, queries, dim = q.shape
    keys = k.shape[2]
    q, k, v = (_dense_rows(x) for x in (q, k, v))
    out = q.new_empty(batch, queries, heads, dim).transpose(1, 2)
    weight = q if log_weight is None else log_weight.expand(batch, heads, keys)
    logit = q if self_logit is None else self_logit
    value = q if self_value is None else _dense_rows(self_value)
    rows, columns, warps, stages = _tiles(dim, q.dtype, queries)
    _attend[(triton.cdiv(queries, rows), batch * heads)](
        *(q, k, v, out, weight, logit, value),
        q if lengths is None else lengths.contiguous(),
        q if key_lengths is None else key_lengths.contiguous(),
        *(n for x in (q, k, v, out, weight, logit, value) for n in x.stride()[:3]),
        *(heads, queries, keys, dim**-0.5),
        DIM=dim,
        ROWS=rows,
        COLUMNS=columns,
        WEIGHTED=log_weight is not None,
        SELF=self_logit is not None,
        QUERY_LENGTHS=lengths is not None,
        KEY_LENGTHS=key_lengths is not None,
        INTERPRETED=interpreted(),
        num_warps=warps,
        num_stages=stages,
    )
    return out


def _dense_rows(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _tiles(dim: int, dtype: torch.dtype, queries: int) -> tuple[int, int, int, int]:
    """Queries and keys of a tile, warps, stages: a fixed table, so that a run repeats bit for bit."""
    rows = min(128, max(16, triton.next_power_of_2(queries)))
    if dtype == torch.float32:
        return min(rows, 64), 32, 4, 2
    return rows, 64, 8 if dim == 128 else 4, 3


_LENGTHS = ["heads", "queries", "keys", "w_batch", "w_head", "l_batch", "l_head"]


@triton.jit(do_not_specialize=_LENGTHS)  # one compiled kernel for all numbers of frames
def _attend(
    q, k, v, out, weight, logit, value, lengths, key_lengths,
    q_batch, q_head, q_token, k_batch, k_head, k_token, v_batch, v_head, v_token, o_batch, o_head,
    o_token, w_batch, w_head, w_token, l_batch, l_head, l_token, s_batch, s_head, s_token,
    heads, queries, keys, scale,
    DIM: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, WEIGHTED: tl.constexpr,
    SELF: tl.constexpr, QUERY_LENGTHS: tl.constexpr, KEY_LENGTHS: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(1)
    batch = (pair // heads).to(tl.int64)  # from here on offsets are 64 bits wide: sequences pass 2^31 numbers
    head = (pair % heads).to(tl.int64)
    first = tl.program_id(0).to(tl.int64) * ROWS
    row, column, dim = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DIM)
    asked = queries
    if QUERY_LENGTHS:
        asked = tl.minimum(queries, tl.load(lengths + pair).to(tl.int32))
    seen = keys
    if KEY_LENGTHS:
        seen = tl.minimum(keys, tl.load(key_lengths + pair).to(tl.int32))
    inside, real = first + row < queries, first + row < asked
    o_at = out + batch * o_batch + head * o_head + first * o_token + row[:, None] * o_token + dim[None, :]
    if first >= asked:
        tl.store(o_at, tl.zeros([ROWS, DIM], out.dtype.element_ty), mask=inside[:, None])
        return
    q_at = q + batch * q_batch + head * q_head + first * q_token + row[:, None] * q_token + dim[None, :]
    query = tl.load(q_at, mask=real[:, None], other=0.0)
    k_at = k + batch * k_batch + head * k_head + column[:, None] * k_token + dim[None, :]
    v_at = v + batch * v_batch + head * v_head + column[:, None] * v_token + dim[None, :]
    w_at = weight + batch * w_batch + head * w_head + column * w_token
    # The running softmax: `top` the largest logit so far (base two), `total` and `sums` relative to it.
    if SELF:
        l_at = logit + batch * l_batch + head * l_head + (first + row) * l_token
        own = tl.load(l_at, mask=real, other=0.0).to(tl.float32)
        top = tl.maximum(own, _NEVER) * _LOG2_E
        total = tl.full([ROWS], 1.0, tl.float32)
        s_at = value + batch * s_batch + head * s_head + first * s_token
        s_at += row[:, None] * s_token + dim[None, :]
        sums = tl.load(s_at, mask=real[:, None], other=0.0).to(tl.float32)
    else:
        top = tl.full([ROWS], float("-inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        sums = tl.zeros([ROWS, DIM], tl.float32)
    base_two = scale * _LOG2_E
    whole = seen // COLUMNS
    for _ in range(0, whole):
        sums, total, top = _join(
            *(query, k_at, v_at, w_at, sums, total, top, base_two, column, COLUMNS),
            *(WEIGHTED, False, INTERPRETED),
        )
        k_at += COLUMNS * k_token
        v_at += COLUMNS * v_token
        w_at += COLUMNS * w_token
    left = seen - whole * COLUMNS
    if left > 0:
        sums, total, top = _join(
            *(query, k_at, v_at, w_at, sums, total, top, base_two, column, left),
            *(WEIGHTED, True, INTERPRETED),
        )
    answer = sums / tl.where(total > 0, total, 1.0)[:, None]
    answer = tl.where(real[:, None], answer, 0.0)
    tl.store(o_at, rounded(answer, out.dtype.element_ty, INTERPRETED), mask=inside[:, None])


@triton.jit
def _join(
    query, k_at, v_at, w_at, sums, total, top, base_two, column, left,
    WEIGHTED: tl.constexpr, PARTIAL: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    """The running softmax with one more tile of keys, of which `left` are real."""
    if PARTIAL:
        key = tl.load(k_at, mask=(column < left)[:, None], other=0.0)
        held = tl.load(v_at, mask=(column < left)[:, None], other=0.0)
    else:
        key = tl.load(k_at)
        held = tl.load(v_at)
    scores = dot(query, tl.trans(key), INTERPRETED)
    if WEIGHTED:
        if PARTIAL:
            gain = tl.load(w_at, mask=column < left, other=0.0).to(tl.float32)
        else:
            gain = tl.load(w_at).to(tl.float32)
        scores = tl.fma(scores, base_two, (tl.maximum(gain, _NEVER) * _LOG2_E)[None, :])
    if PARTIAL:
        scores = tl.where((column < left)[None, :], scores, float("-inf"))
    if WEIGHTED:
        higher = tl.maximum(top, tl.max(scores, 1))
        share = tl.exp2(scores - higher[:, None])
    else:  # scaled with the difference in one step: what is done to every score decides the speed
        higher = tl.maximum(top, tl.max(scores, 1) * base_two)
        share = tl.exp2(tl.fma(scores, base_two, -higher[:, None]))
    shrink = tl.exp2(top - higher)
    total = total * shrink + tl.sum(share, 1)
    sums = sums * shrink[:, None] + dot(rounded(share, held.dtype, INTERPRETED), held, INTERPRETED)
    return sums, total, higher
