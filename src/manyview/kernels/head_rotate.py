"""Projected tokens to queries or keys: normalised, with rotary positions, laid out by head."""

from __future__ import annotations

from typing import NamedTuple

import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .operators import operator

# A program takes this many tokens of this many heads: at 64 channels in bf16 16 KB read and as much written,
# for which the angles of its tokens are read once.
_TOKENS, _HEADS = 32, 4
_WARPS = 4


class Angles(NamedTuple):
    """Cosines and sines of `period` tokens, rows then columns; `tiled` is VGGT-Ω's order of channels.

    A head's channels are four quarters. Rows turn quarters 0 and 1, columns 2 and 3; tiled: 0 and 2, 1 and 3.
    """

    cos: Float[Tensor, "period 2 quarter"]
    sin: Float[Tensor, "period 2 quarter"]
    tiled: bool = False


def qk_norm_rotate(
    projected: Float[Tensor, "batch tokens channels"],
    num_heads: int,
    weight: Float[Tensor, " head_dim"] | None = None,
    bias: Float[Tensor, " head_dim"] | None = None,
    eps: float | None = None,
    angles: Angles | None = None,
    out: Float[Tensor, "batch heads tokens head_dim"] | None = None,
) -> Float[Tensor, "batch heads tokens head_dim"]:
    """Queries or keys from their projection, which may be a slice of a joint one (strided).

    Layer norm over the channels of a head (`eps` None: none), then two-dimensional rotary positions (None:
    none), all in float32, stored once in the dtype of `projected`. The n-th token has the angles of n modulo
    their period. `out` may be a part of a larger tensor (contiguous channels); by default the result lies in
    memory as [batch, tokens, heads, head_dim], which attention's output follows, so that the output
    projection reads that in place. One read, one write.
    """
    batch, tokens, channels = projected.shape
    head_dim = channels // num_heads
    if head_dim % 4:
        raise ValueError(f"heads of four quarters need a width divisible by 4, got {head_dim}")
    if projected.stride(-1) != 1:
        projected = projected.contiguous()
    if out is None:
        out = projected.new_empty(batch, tokens, num_heads, head_dim).transpose(1, 2)
    cos, sin = (None, None) if angles is None else (angles.cos.contiguous(), angles.sin.contiguous())
    _head_rotate(projected, weight, bias, eps, cos, sin, angles is not None and angles.tiled, out)
    return out


@operator(
    "head_rotate(Tensor projected, Tensor? weight, Tensor? bias, float? eps, Tensor? cos, Tensor? sin, "
    "bool tiled, Tensor(a!) out)"
)
def _head_rotate(
    projected: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float | None,
    cos: Tensor | None,
    sin: Tensor | None,
    tiled: bool,
    out: Tensor,
) -> None:
    batch, num_heads, tokens, head_dim = out.shape
    if not out.numel():
        return
    quarter = head_dim // 4
    blocks = triton.cdiv(tokens, _TOKENS)  # batches beside them in one dimension: others end at 65,535
    _kernel[(batch * blocks, triton.cdiv(num_heads, _HEADS))](
        projected,
        projected if weight is None else weight,
        projected if bias is None else bias,
        projected if cos is None else cos,
        projected if sin is None else sin,
        out,
        blocks,
        tokens,
        num_heads,
        1 if cos is None else cos.shape[0],
        projected.stride(0),
        projected.stride(1),
        out.stride(0),
        out.stride(1),
        out.stride(2),
        0.0 if eps is None else eps,
        NORM=eps is not None,
        WEIGHT=weight is not None,
        BIAS=bias is not None,
        TURN=cos is not None,
        TILED=tiled,
        QUARTER=quarter,
        BLOCK=triton.next_power_of_2(quarter),
        TOKENS=_TOKENS,
        HEADS=_HEADS,
        num_warps=_WARPS,
    )


@triton.jit
def _kernel(
    in_ptr, weight_ptr, bias_ptr, cos_ptr, sin_ptr, out_ptr,
    blocks, tokens, heads, period, in_batch, in_token, out_batch, out_head, out_token, eps,
    NORM: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr, TURN: tl.constexpr, TILED: tl.constexpr,
    QUARTER: tl.constexpr, BLOCK: tl.constexpr, TOKENS: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    # Row pairs are quarters (0, SECOND), column pairs (COLUMN, COLUMN + SECOND).
    SECOND: tl.constexpr = 2 * QUARTER if TILED else QUARTER
    COLUMN: tl.constexpr = QUARTER if TILED else 2 * QUARTER
    # 64 bits from here on: 3,000 frames of 1,041 tokens with 1,024 channels pass 2**31 elements.
    program = tl.program_id(0).to(tl.int64)
    batch = program // blocks
    token = (program % blocks) * TOKENS + tl.arange(0, TOKENS)
    lane = tl.arange(0, BLOCK)
    channel = lane < QUARTER
    there = (token < tokens)[:, None] & channel[None, :]
    if TURN:
        angle = ((token % period) * (2 * QUARTER))[:, None] + lane[None, :]
        row_cos = tl.load(cos_ptr + angle, there, other=1.0).to(tl.float32)
        row_sin = tl.load(sin_ptr + angle, there, other=0.0).to(tl.float32)
        column_cos = tl.load(cos_ptr + angle + QUARTER, there, other=1.0).to(tl.float32)
        column_sin = tl.load(sin_ptr + angle + QUARTER, there, other=0.0).to(tl.float32)
    for step in range(HEADS):
        head = tl.program_id(1).to(tl.int64) * HEADS + step
        live = (token < tl.where(head < heads, tokens, 0))[:, None] & channel[None, :]
        source = in_ptr + batch * in_batch + head * (4 * QUARTER)
        source = source + (token * in_token)[:, None] + lane[None, :]
        r1 = tl.load(source, live, other=0.0).to(tl.float32)
        r2 = tl.load(source + SECOND, live, other=0.0).to(tl.float32)
        c1 = tl.load(source + COLUMN, live, other=0.0).to(tl.float32)
        c2 = tl.load(source + (COLUMN + SECOND), live, other=0.0).to(tl.float32)
        if NORM:
            mean = (tl.sum(r1 + r2 + c1 + c2, 1) / (4 * QUARTER))[:, None]
            r1 = tl.where(live, r1 - mean, 0.0)
            r2 = tl.where(live, r2 - mean, 0.0)
            c1 = tl.where(live, c1 - mean, 0.0)
            c2 = tl.where(live, c2 - mean, 0.0)
            square = tl.sum(r1 * r1 + r2 * r2 + c1 * c1 + c2 * c2, 1)
            scale = (1.0 / tl.sqrt(square / (4 * QUARTER) + eps))[:, None]
            r1, r2, c1, c2 = r1 * scale, r2 * scale, c1 * scale, c2 * scale
        if WEIGHT:
            at = weight_ptr + lane
            r1 *= tl.load(at, channel, other=0.0).to(tl.float32)[None, :]
            r2 *= tl.load(at + SECOND, channel, other=0.0).to(tl.float32)[None, :]
            c1 *= tl.load(at + COLUMN, channel, other=0.0).to(tl.float32)[None, :]
            c2 *= tl.load(at + (COLUMN + SECOND), channel, other=0.0).to(tl.float32)[None, :]
        if BIAS:
            at = bias_ptr + lane
            r1 += tl.load(at, channel, other=0.0).to(tl.float32)[None, :]
            r2 += tl.load(at + SECOND, channel, other=0.0).to(tl.float32)[None, :]
            c1 += tl.load(at + COLUMN, channel, other=0.0).to(tl.float32)[None, :]
            c2 += tl.load(at + (COLUMN + SECOND), channel, other=0.0).to(tl.float32)[None, :]
        if TURN:
            r1, r2 = r1 * row_cos - r2 * row_sin, r2 * row_cos + r1 * row_sin
            c1, c2 = c1 * column_cos - c2 * column_sin, c2 * column_cos + c1 * column_sin
        target = out_ptr + batch * out_batch + head * out_head
        target = target + (token * out_token)[:, None] + lane[None, :]
        kind = out_ptr.dtype.element_ty
        tl.store(target, r1.to(kind), live)
        tl.store(target + SECOND, r2.to(kind), live)
        tl.store(target + COLUMN, c1.to(kind), live)
        tl.store(target + (COLUMN + SECOND), c2.to(kind), live)
