"""Attention to keys with log weights, and of heads that differ in length, on PyTorch's fused kernels.

These take no weights. Here two channels of the head carry them: a query holds a constant, a key its weight.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .lengths import attend_lengths
from .logsumexp import attend_with_lse
from .sdpa import attend

NEVER = -30_000.0  # added to a logit: exp underflows to zero, and half precision holds it


def attend_weighted(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "key_batch key_heads keys dim"],
    v: Float[Tensor, "key_batch key_heads keys dim"],
    log_weight: Float[Tensor, "*sizes"] | None = None,
    lengths: Int[Tensor, "key_batch key_heads"] | None = None,
    longest: int = 0,
    *,
    shapes_vary: bool = False,
) -> Float[Tensor, "batch heads queries dim"]:
    """softmax(q kᵀ/√d + log_weight) v.

    `log_weight` broadcasts to [batch, heads, keys]; minus infinity hides a key. With `lengths` the queries of
    head after head are in one row, see `attend_lengths`. Memory stays linear in the tokens; gradients flow.
    """
    dim, scale = q.shape[-1], q.shape[-1] ** -0.5
    if log_weight is not None:
        q, k, v = _with_weights(q, k, v, log_weight, scale)
    if lengths is not None:
        heads = attend_lengths(q, k, v, lengths, longest, scale=scale)
    else:
        heads = attend(q, k, v, scale=scale, shapes_vary=shapes_vary)
    return heads[..., :dim]


def attend_weighted_with_lse(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    log_weight: Float[Tensor, "*sizes"] | None = None,
    *,
    scale: float | None = None,
    shapes_vary: bool = False,
) -> tuple[Float[Tensor, "batch heads queries dim"], Float[Tensor, "batch heads queries"]]:
    """`attend_weighted`, and the log-sum-exp of the weighted logits; `scale` None: 1/√d."""
    dim = q.shape[-1]
    scale = dim**-0.5 if scale is None else scale
    if log_weight is not None:
        q, k, v = _with_weights(q, k, v, log_weight, scale)
    heads, lse = attend_with_lse(q, k, v, scale=scale, shapes_vary=shapes_vary)
    return heads[..., :dim], lse


def weighted_width(head_dim: int, weighted: bool = True) -> int:
    """Head width that kernels compute for keys with weights: two channels more, and a multiple of eight."""
    return head_dim + 2 + -(head_dim + 2) % 8 if weighted else head_dim


def _with_weights(
    q: Tensor, k: Tensor, v: Tensor, log_weight: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Widened heads, for the same `scale` of their logits."""
    room = weighted_width(q.shape[-1]) - q.shape[-1]
    weight = log_weight.clamp(min=NEVER).expand(*k.shape[:3])
    # The weight as two channels, whose sum keeps single precision in a half-precision kernel.
    high = weight.to(k.dtype)
    both = torch.stack([high, (weight - high.to(weight.dtype)).to(k.dtype)], -1)
    q = torch.cat([q, torch.full_like(q[..., :2], 1 / scale)], -1)
    k = torch.cat([k, both], -1)
    return F.pad(q, (0, room - 2)), F.pad(k, (0, room - 2)), F.pad(v, (0, room))
