"""One softmax over shared keys, weighted keys and one more term of each query, on fused kernels.

No PyTorch kernel takes a term whose logit differs from query to query. Here it is carried by extra channels
of the head: a query holds the logit, one null key the matching 1 and a zero value, and a channel of ones in
the values gives the share of the softmax that fell on the shared keys.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ...kernels import fused
from .sdpa import attend

_NEVER = -30_000.0  # exp underflows to zero, and half precision holds it
_SCORES_AT_ONCE, _SCORES_CPU = 1 << 26, 1 << 22


def attend_extended(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    log_weight: Float[Tensor, "*sizes"] | None = None,
    self_logit: Float[Tensor, "batch heads queries"] | None = None,
    self_value: Float[Tensor, "batch heads queries dim"] | None = None,
    lengths: Int[Tensor, "batch heads"] | None = None,
    *,
    kernels: str = "plain",
) -> Float[Tensor, "batch heads queries dim"]:
    """softmax over {q kᵀ/√d + log_weight} ∪ {self_logit}, applied to {v} ∪ {self_value}.

    `log_weight` broadcasts to [batch, heads, keys]; minus infinity hides a key. `self_logit` minus infinity
    leaves a query without that term. Queries from `lengths` on are not computed and give zero. Memory
    stays linear in the tokens; gradients flow. With `kernels` "triton" a kernel takes what PyTorch's own
    attention cannot express.
    """
    if (log_weight is not None or self_logit is not None or lengths is not None) and fused(
        kernels,
        *(x for x in (q, k, v, log_weight, self_logit, self_value, lengths) if x is not None),
        part="merging",
    ):
        from ...kernels import attention as kernel  # imports Triton

        if kernel.takes(q, k, v):
            return kernel.attend_terms(q, k, v, log_weight, self_logit, self_value, lengths)
    if log_weight is None and self_logit is None:
        return attend_lengths(q, k, v, lengths)
    dim = q.shape[-1]
    root = dim**0.5
    q_parts, k_parts = [q], [k]
    if log_weight is not None:
        weight = log_weight.clamp(min=_NEVER).expand(*k.shape[:2], k.shape[2])
        q_parts += [torch.full_like(q[..., :2], root)]
        k_parts += [_high_low(weight, k.dtype)]
    if self_logit is not None:
        assert self_value is not None
        q_parts += [_high_low(self_logit.clamp(min=_NEVER) * root, q.dtype)]
        k_parts += [torch.zeros_like(k[..., :2])]
    q, k = torch.cat(q_parts, -1), torch.cat(k_parts, -1)
    if self_logit is not None:
        null_key = torch.cat([torch.zeros_like(k[..., :1, :-2]), torch.ones_like(k[..., :1, :2])], -1)
        k = torch.cat([k, null_key], 2)
        v = F.pad(torch.cat([v, torch.ones_like(v[..., :1])], -1), (0, 0, 0, 1))
    # Kernels scale by the width they see; the scale must stay that of `dim`.
    width = extended_width(dim, log_weight is not None, self_logit is not None)
    factor = (width / dim) ** 0.5
    heads = attend_lengths(
        F.pad(q * factor, (0, width - q.shape[-1])),
        F.pad(k, (0, width - k.shape[-1])),
        F.pad(v, (0, width - v.shape[-1])),
        lengths,
    )
    if self_logit is None or self_value is None:
        return heads[..., :dim]
    return heads[..., :dim] + (1 - heads[..., dim : dim + 1]) * self_value


def attend_lengths(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    lengths: Int[Tensor, "batch heads"] | None,
) -> Float[Tensor, "batch heads queries dim"]:
    """Attention for the first `lengths` queries of each head (None: all); zeros after them.

    What all heads have goes to the kernel at once, the rest head by head: nothing is computed for filling.
    """
    if lengths is None or q.device.type == "meta":
        return attend(q, k, v)
    sizes = lengths.flatten().tolist()
    common = min(sizes)
    shared = attend(q[:, :, :common], k, v)
    if common == q.shape[2]:
        return shared
    rest = q.shape[2] - common
    rests = [
        F.pad(attend(a[None, None, common:n], b[None, None], c[None, None]), (0, 0, 0, rest + common - n))
        for a, b, c, n in zip(*(x.flatten(0, 1) for x in (q, k, v)), sizes, strict=True)
        if n > common
    ]
    filled = iter(rests)
    none = q.new_zeros(1, 1, rest, v.shape[-1])
    tail = torch.cat([next(filled) if n > common else none for n in sizes], 1)
    return torch.cat([shared, tail.view(*q.shape[:2], rest, -1)], 2)


def extended_width(head_dim: int, weighted: bool, own: bool) -> int:
    """Head width that the kernel computes: two channels a kind of term, then a multiple of eight."""
    width = head_dim + 2 * weighted + 2 * own
    return width + -width % 8 if weighted or own else head_dim


def own_term_bytes(frames: int, tokens_per_frame: int, heads: int, element_bytes: int) -> int:
    """What the scores of `same_frame_terms` take on a CPU, in the inputs' precision and in float32."""
    one = heads * tokens_per_frame**2
    low = element_bytes if element_bytes < 4 else 0
    return (3 * 4 + low) * max(one, min(_SCORES_CPU, frames * one))


def _high_low(value: Tensor, dtype: torch.dtype) -> Tensor:
    """The value as two channels whose sum keeps single precision in a half-precision kernel."""
    high = value.to(dtype)
    low = (value - high.to(value.dtype)).to(dtype)
    return torch.stack([high, low], -1)


def same_frame_terms(
    q: Float[Tensor, "batch heads tokens dim"],
    k: Float[Tensor, "batch heads tokens dim"],
    v: Float[Tensor, "batch heads tokens dim"],
    frames: int,
) -> tuple[Float[Tensor, "batch heads tokens"], Float[Tensor, "batch heads tokens dim"]]:
    """Each query's attention within its own frame as one term: log-sum-exp of scores, and output.

    A few frames at a time, so that at most 2^26 scores exist at once (float32), 2^22 on a CPU.
    """
    batch, heads, tokens, dim = q.shape
    budget = min(_SCORES_CPU, _SCORES_AT_ONCE) if q.device.type == "cpu" else _SCORES_AT_ONCE
    step = max(1, budget // (batch * heads * (tokens // frames) ** 2))
    split = [x.unflatten(2, (frames, -1)) for x in (q, k, v)]
    logits, values = [], []
    for start in range(0, frames, step):
        q_part, k_part, v_part = (x[:, :, start : start + step] for x in split)
        scores = (q_part @ k_part.transpose(-1, -2)).to(torch.promote_types(q.dtype, torch.float32))
        scores = scores * dim**-0.5
        logits.append(scores.logsumexp(-1))
        values.append(scores.softmax(-1).to(v.dtype) @ v_part)
    return torch.cat(logits, 2).flatten(2), torch.cat(values, 2).flatten(2, 3)
