"""The softmax over shared keys and further terms, from outputs and log-sum-exps, in one pass over the tokens.

Source: parts of a softmax are merged as in the online softmax of FlashAttention (arXiv 2205.14135).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from .choice import interpreted
from .merge import dense_rows
from .operators import operator
from .precision import rounded

_TOKENS = 64  # of a program, and one head: at 64 channels in bf16 8 KB of each tensor


def takes(shared: Tensor) -> bool:
    """Whether the kernel takes these shapes; for others there are the plain operations."""
    heads = shared.shape[0] * shared.shape[1]  # second dimension of a launch
    return shared.numel() > 0 and shared.shape[-1] <= 256 and heads < 65_536


def merge_terms(
    q: Float[Tensor, "batch heads tokens dim"],
    shared: Float[Tensor, "batch heads tokens dim"],
    lse: Float[Tensor, "batch heads tokens"],
    own_value: Float[Tensor, "batch heads tokens dim"] | None,
    own_logit: Float[Tensor, "batch heads tokens"] | None,
    own_key: Float[Tensor, "batch heads tokens dim"] | None,
    absent: Bool[Tensor, "batch tokens"] | None,
    mean_key: Float[Tensor, "batch heads dim"] | None,
    mean_value: Float[Tensor, "batch heads dim"] | None,
    mean_weight: float,
) -> Float[Tensor, "batch heads tokens dim"]:
    """See `attention.softmax.terms.merge_terms`; all in float32, stored once.

    The result lies in memory as [batch, tokens, heads, dim], as the output projection reads it: over `shared`
    where that does so already.
    """
    batch, heads, tokens, dim = shared.shape
    out = shared
    if not shared.transpose(1, 2).is_contiguous():
        out = shared.new_empty(batch, tokens, heads, dim).transpose(1, 2)
    q, shared = dense_rows(q), dense_rows(shared)
    value, key = (None if x is None else dense_rows(x) for x in (own_value, own_key))
    means = (None if x is None else x.contiguous() for x in (mean_key, mean_value))
    _merge_terms(q, shared, lse, value, own_logit, key, absent, *means, mean_weight, out)
    return out


@operator(
    "merge_terms(Tensor q, Tensor shared, Tensor lse, Tensor? own_value, Tensor? own_logit, Tensor? own_key, "
    "Tensor? absent, Tensor? mean_key, Tensor? mean_value, float mean_weight, Tensor(a!) out)"
)
def _merge_terms(
    q: Tensor,
    shared: Tensor,
    lse: Tensor,
    own_value: Tensor | None,
    own_logit: Tensor | None,
    own_key: Tensor | None,
    absent: Tensor | None,
    mean_key: Tensor | None,
    mean_value: Tensor | None,
    mean_weight: float,
    out: Tensor,
) -> None:
    batch, heads, tokens, dim = out.shape
    value = shared if own_value is None else own_value
    logit = lse if own_logit is None else own_logit
    key = q if own_key is None else own_key
    gone = lse[:, 0] if absent is None else absent.view(torch.int8)
    rows = (q, shared, lse, value, logit, key, out)
    _kernel[(triton.cdiv(tokens, _TOKENS), batch * heads)](
        *(*rows, gone, q if mean_key is None else mean_key, q if mean_value is None else mean_value),
        *(n for x in rows for n in x.stride()[:3]),
        *gone.stride(),
        *(heads, tokens, dim, dim**-0.5, mean_weight),
        OWN=own_value is not None,
        OWN_LOGIT=own_logit is not None,
        ABSENT=absent is not None,
        MEAN=mean_key is not None,
        TOKENS=_TOKENS,
        BLOCK=triton.next_power_of_2(dim),
        INTERPRETED=interpreted(),
        num_warps=4,
    )


_LENGTHS = ["heads", "tokens", "l_batch", "l_head", "i_batch", "i_head", "g_batch"]


@triton.jit(do_not_specialize=_LENGTHS)  # one compiled kernel for all numbers of frames
def _kernel(
    q, shared, lse, value, logit, key, out, gone, mean_key, mean_value,
    q_batch, q_head, q_token, s_batch, s_head, s_token, l_batch, l_head, l_token,
    v_batch, v_head, v_token, i_batch, i_head, i_token, k_batch, k_head, k_token,
    o_batch, o_head, o_token, g_batch, g_token,
    heads, tokens, width, scale, mean_weight,
    OWN: tl.constexpr, OWN_LOGIT: tl.constexpr, ABSENT: tl.constexpr, MEAN: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK: tl.constexpr, INTERPRETED: tl.constexpr,
):  # fmt: skip
    pair = tl.program_id(1)
    batch = (pair // heads).to(tl.int64)  # from here on offsets are 64 bits wide: sequences pass 2^31 numbers
    head = (pair % heads).to(tl.int64)
    token, lane = tl.program_id(0).to(tl.int64) * TOKENS + tl.arange(0, TOKENS), tl.arange(0, BLOCK)
    real, channel = token < tokens, lane < width
    there = real[:, None] & channel[None, :]
    first = tl.load(lse + batch * l_batch + head * l_head + token * l_token, mask=real, other=0.0)
    first = first.to(tl.float32)
    top = first
    if MEAN or (OWN and not OWN_LOGIT):
        at = batch * q_batch + head * q_head + (token * q_token)[:, None] + lane[None, :]
        query = tl.load(q + at, mask=there, other=0.0).to(tl.float32)
    if OWN:
        if OWN_LOGIT:
            at = batch * i_batch + head * i_head + token * i_token
            own = tl.load(logit + at, mask=real, other=0.0).to(tl.float32)
        else:
            at = batch * k_batch + head * k_head + (token * k_token)[:, None] + lane[None, :]
            own = tl.sum(query * tl.load(key + at, mask=there, other=0.0).to(tl.float32), 1) * scale
        if ABSENT:
            missing = tl.load(gone + batch * g_batch + token * g_token, mask=real, other=0)
            own = tl.where(missing != 0, float("-inf"), own)
        top = tl.maximum(top, own)
    if MEAN:
        at = pair.to(tl.int64) * width + lane
        middle = tl.load(mean_key + at, mask=channel, other=0.0).to(tl.float32)
        mean = tl.sum(query * middle[None, :], 1) * scale + mean_weight
        top = tl.maximum(top, mean)
    share = tl.exp(first - top)
    total = share
    at = batch * s_batch + head * s_head + (token * s_token)[:, None] + lane[None, :]
    sums = tl.load(shared + at, mask=there, other=0.0).to(tl.float32) * share[:, None]
    if OWN:
        share = tl.exp(own - top)
        total += share
        at = batch * v_batch + head * v_head + (token * v_token)[:, None] + lane[None, :]
        sums += tl.load(value + at, mask=there, other=0.0).to(tl.float32) * share[:, None]
    if MEAN:
        share = tl.exp(mean - top)
        total += share
        at = pair.to(tl.int64) * width + lane
        middle = tl.load(mean_value + at, mask=channel, other=0.0).to(tl.float32)
        sums += middle[None, :] * share[:, None]
    at = batch * o_batch + head * o_head + (token * o_token)[:, None] + lane[None, :]
    answer = rounded(sums / total[:, None], out.dtype.element_ty, INTERPRETED)
    tl.store(out + at, answer, mask=there)
