"""Attention of heads that differ in their number of queries, as head-wise merging leaves them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.attention import SDPBackend

from .sdpa import attend, output_of


def attend_lengths(
    q: Float[Tensor, "1 1 all_queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    lengths: Int[Tensor, "batch heads"],
    longest: int,
    *,
    scale: float | None = None,
) -> Float[Tensor, "1 1 all_queries dim"]:
    """softmax(q kᵀ scale) v for queries of which each head has a number of its own.

    On CUDA one variable-length kernel takes every head as a sequence, and `lengths` stay on the device: the
    shapes and the work of the host are the same whatever they are. Elsewhere, and with gradients, it is head
    by head.

    Args:
        q: The queries of head after head, those of the first batch element first.
        k: Keys of each head.
        v: Values of each head.
        lengths: How many of the queries are a head's; their sum is all of them.
        longest: No head has more, as known without asking the device.
        scale: Factor of the logits; None: 1 / sqrt(dim).

    Returns:
        The outputs in the order of the queries.
    """
    if q.is_meta:  # every query sees the keys of one head
        return output_of(SDPBackend.FLASH_ATTENTION, q, k[:1, :1], v[:1, :1], scale)
    wants_gradients = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v))
    if not q.is_cuda or wants_gradients or q.dtype == torch.float64:
        parts = q[0, 0].split(lengths.flatten().tolist())
        triples = zip(parts, k.flatten(0, 1), v.flatten(0, 1), strict=True)
        found = [
            attend(a[None, None], b[None, None], c[None, None], scale=scale, shapes_vary=True)
            for a, b, c in triples
            if len(a)
        ]
        return torch.cat(found, 2) if found else torch.empty_like(q)
    dim, keys = q.shape[-1], k.shape[2]
    scale = dim**-0.5 if scale is None else scale
    q, k, v = (F.pad(x, (0, -dim % 8)) if dim % 8 else x for x in (q, k, v))
    # Rows of one head each, [rows, 1, dim]; where a sequence ends.
    q, k, v = (x.reshape(-1, 1, x.shape[-1]) for x in (q, k, v))
    ends = F.pad(lengths.flatten().cumsum(0, dtype=torch.int32), (1, 0))
    key_ends = torch.arange(lengths.numel() + 1, device=q.device, dtype=torch.int32) * keys
    if _flash_takes(q):
        out = torch.ops.aten._flash_attention_forward(
            q, k, v, ends, key_ends, longest, keys, 0.0, False, False, scale=scale
        )[0]
    else:
        out = torch.ops.aten._efficient_attention_forward(
            q[None], k[None], v[None], None, ends, key_ends, longest, keys, 0.0, 0, scale=scale
        )[0]
    heads: Tensor = out.view(1, 1, -1, out.shape[-1])[..., :dim]
    return heads


def _flash_takes(q: Tensor) -> bool:
    if q.dtype == torch.float32:
        return False
    return isinstance(q, FakeTensor) or torch.cuda.get_device_capability(q.device) >= (8, 0)
