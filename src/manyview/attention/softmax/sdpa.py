"""Scaled dot-product attention that never falls back to the quadratic-memory implementation."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from ...errors import MemoryLimitError
from .bf16_cpu import attend_by_products, pays

# cuDNN is the fastest on recent cards, but builds a plan for every new shape, some 0.1 s each.
_FIXED = [SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
_VARYING = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION]
_CUDNN_NUMBERS = 1 << 31  # cuDNN counts a tensor's numbers in 32 bits
# Below this many scores per head the materialised matrix is smaller than the tokens themselves.
_SMALL_SCORES = 1 << 16


def attend(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    *,
    scale: float | None = None,
    shapes_vary: bool = False,
) -> Float[Tensor, "batch heads queries dim"]:
    """softmax(q kᵀ scale) v, in memory linear in the number of tokens.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        scale: Factor of the logits; None: 1 / sqrt(dim).
        shapes_vary: Whether shapes depend on the data or there are many of them, so that kernels that prepare
            for each shape are left out.

    Returns:
        The outputs; on CUDA they lie in memory as `q` does.

    Raises:
        MemoryLimitError: where no fused kernel takes these inputs and the scores would be large: PyTorch
            would otherwise silently materialise queries x keys numbers per head.
    """
    if q.is_meta:  # shapes only: the composite fallback would count scores no device makes
        return output_of(SDPBackend.FLASH_ATTENTION, q, k, v, scale)
    if q.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        # The CPU kernel's gradient is several times slower in half precision than in single.
        with torch.autocast("cpu", enabled=False):
            return attend(q.float(), k.float(), v.float(), scale=scale)
    if pays(q, k, v):
        return attend_by_products(q, k, v, scale)[0]
    small = q.shape[-2] * k.shape[-2] <= _SMALL_SCORES
    if q.is_cuda:
        order = backend_order(q, k, v, shapes_vary=shapes_vary)
        if isinstance(q, FakeTensor):
            return output_of(order[0], q, k, v, scale)
        with named_errors(q, k), sdpa_kernel([*order, *[SDPBackend.MATH] * small], set_priority=True):
            return F.scaled_dot_product_attention(q, k, v, scale=scale)
    if small:
        return F.scaled_dot_product_attention(q, k, v, scale=scale)
    if q.device.type != "cpu":  # no way to tell which kernel PyTorch takes there
        return attend_in_pieces(q, k, v, scale)[0]
    with named_errors(q, k), sdpa_kernel(_VARYING):
        return F.scaled_dot_product_attention(q, k, v, scale=scale)


def backend_order(q: Tensor, k: Tensor, v: Tensor, *, shapes_vary: bool) -> list[SDPBackend]:
    """PyTorch's kernels for CUDA tensors, best first; the first is right for fake tensors."""
    if q.dtype not in (torch.float16, torch.bfloat16) and isinstance(q, FakeTensor):
        return [SDPBackend.EFFICIENT_ATTENTION]
    fits = max(q.numel(), k.numel(), v.numel()) < _CUDNN_NUMBERS
    return _FIXED if fits and not shapes_vary else _VARYING


def fused_attention(
    backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor, scale: float | None
) -> tuple[Any, ...]:
    """All that one of PyTorch's CUDA kernels returns, output and log-sum-exp first."""
    aten = torch.ops.aten
    if backend == SDPBackend.CUDNN_ATTENTION:
        return aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, scale=scale)  # type: ignore[no-any-return]
    if backend == SDPBackend.FLASH_ATTENTION:
        return aten._scaled_dot_product_flash_attention(q, k, v, scale=scale)  # type: ignore[no-any-return]
    return aten._scaled_dot_product_efficient_attention(q, k, v, None, True, scale=scale)  # type: ignore[no-any-return]


def output_of(backend: SDPBackend, q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    """The output of `fused_attention`."""
    out: Tensor = fused_attention(backend, q, k, v, scale)[0]
    return out


def attend_in_pieces(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    scale: float | None = None,
    scores: int = 1 << 26,
) -> tuple[Float[Tensor, "batch heads queries dim"], Float[Tensor, "batch heads queries"]]:
    """Outputs and log-sum-exp, for some queries at a time, so that at most `scores` scores exist at once."""
    rows = max(1, scores // max(1, q.shape[0] * q.shape[1] * k.shape[2]))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    wide = torch.promote_types(q.dtype, torch.float32)
    k, v = k.to(wide).transpose(-1, -2), v.to(wide)
    outputs, sums = [], []
    for part in q.split(rows, dim=2):
        logits = part.to(wide) @ k * scale
        outputs.append((logits.softmax(-1) @ v).to(q.dtype))
        sums.append(logits.logsumexp(-1))
    return torch.cat(outputs, 2), torch.cat(sums, 2)


@contextlib.contextmanager
def named_errors(q: Tensor, k: Tensor) -> Iterator[None]:
    """PyTorch's error that no kernel takes these inputs as a MemoryLimitError."""
    try:
        yield
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
