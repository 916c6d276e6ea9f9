"""Scaled dot-product attention that never falls back to the quadratic-memory implementation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...errors import MemoryLimitError
from .bf16_cpu import attend_by_products, pays

_FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
# Below this many scores per head the materialised matrix is smaller than the tokens themselves.
_SMALL_SCORES = 1 << 16


def attend(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
) -> Float[Tensor, "batch heads queries dim"]:
    """softmax(q kᵀ / sqrt(dim)) v, in memory linear in the number of tokens.

    Raises MemoryLimitError where no fused kernel takes these inputs and the scores would be large:
    PyTorch would otherwise silently materialise queries x keys numbers per head.
    """
    if q.device.type == "meta":  # shapes only: the composite fallback would count scores no device makes
        batch, heads, queries, dim = q.shape
        return q.new_empty(batch, queries, heads, dim).transpose(1, 2)
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # The CPU kernel's gradient is several times slower in half precision than in single.
        with torch.autocast("cpu", enabled=False):
            return attend(q.float(), k.float(), v.float())
    if pays(q, k, v):
        return attend_by_products(q, k, v)
    if q.shape[-2] * k.shape[-2] <= _SMALL_SCORES:
        return F.scaled_dot_product_attention(q, k, v)
    if q.device.type not in ("cpu", "cuda"):  # no way to tell which kernel PyTorch takes there
        return attend_in_pieces(q, k, v)
    try:
        with sdpa_kernel(_FUSED):
            return F.scaled_dot_product_attention(q, k, v)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if "No available kernel" not in str(error) and "no viable backend" not in str(error).lower():
            raise
        needed = q.shape[0] * q.shape[1] * q.shape[2] * k.shape[2] * q.element_size()
        raise MemoryLimitError(
            f"no memory-efficient attention kernel takes {q.dtype} on {q.device.type} with head width "
            f"{q.shape[-1]}, and plain attention would need {needed / 2**30:.1f} GiB of scores: "
            "use another precision (--precision bf16, fp16 or fp32) or fewer views"
        ) from error


def attend_in_pieces(q: Tensor, k: Tensor, v: Tensor, scores: int = 1 << 26) -> Tensor:
    """The same as `attend`, for some queries at a time, so that at most `scores` scores exist at once."""
    rows = max(1, scores // (q.shape[0] * q.shape[1] * k.shape[2]))
    pieces = [F.scaled_dot_product_attention(part, k, v) for part in q.split(rows, dim=2)]
    return torch.cat(pieces, dim=2)
