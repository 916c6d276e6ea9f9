"""Attention with the log-sum-exp of its logits, by which softmaxes over several sets of keys become one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from .bf16_cpu import attend_by_products, pays
from .sdpa import attend_in_pieces, backend_order, fused_attention, named_errors


def attend_with_lse(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    *,
    scale: float | None = None,
    shapes_vary: bool = False,
) -> tuple[Float[Tensor, "batch heads queries dim"], Float[Tensor, "batch heads queries"]]:
    """softmax(q kᵀ scale) v, and log(sum(exp(q kᵀ scale))) in float32 (of float64 inputs: float64).

    PyTorch's fused kernels compute both, in memory linear in the number of tokens; gradients flow to both.
    Arguments and errors are those of `attend`.
    """
    if q.is_meta:
        out, sums, *_ = fused_attention(SDPBackend.FLASH_ATTENTION, q, k, v, None)
        return out, sums.to(torch.promote_types(q.dtype, torch.float32))
    device = q.device.type
    if device in ("cpu", "cuda") and torch.is_autocast_enabled(device):
        dtype = torch.float32 if device == "cpu" else torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            q, k, v = (x.to(dtype) for x in (q, k, v))
            return attend_with_lse(q, k, v, scale=scale, shapes_vary=shapes_vary)
    if pays(q, k, v):
        return attend_by_products(q, k, v, scale)
    if device not in ("cpu", "cuda") or not q.numel() or not k.numel():
        return attend_in_pieces(q, k, v, scale)
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    if torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        out, lse = _WithGradients.apply(q, k, v, scale)  # type: ignore[no-untyped-call]
    else:
        out, lse, *_ = _forward(q, k, v, scale, shapes_vary)
    # Kernels may widen the log-sum-exp (efficient), or give it a last dimension of one (cuDNN).
    return out[..., : v.shape[-1]], lse.flatten(2)[..., : q.shape[2]]


def _forward(q: Tensor, k: Tensor, v: Tensor, scale: float, shapes_vary: bool) -> tuple[Any, ...]:
    """What PyTorch's kernel returns; on CUDA with channels up to a multiple of eight, and the kernel last."""
    if q.device.type == "cpu":
        return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=scale)  # type: ignore[no-any-return]
    q, k, v = (_widened(x, -x.shape[-1] % 8) for x in (q, k, v))
    order = backend_order(q, k, v, shapes_vary=shapes_vary)
    if isinstance(q, FakeTensor):
        return *fused_attention(order[0], q, k, v, scale), order[0]
    with named_errors(q, k), sdpa_kernel(order, set_priority=True):
        backend = SDPBackend(torch._fused_sdp_choice(q, k, v, scale=scale))
        return *fused_attention(backend, q, k, v, scale), backend


class _WithGradients(torch.autograd.Function):
    """PyTorch's kernels with the gradient of the log-sum-exp too, which their own backward passes leave out.

    A logit's gradient is its share times (grad_out · v - grad_out · out + grad_lse). The backward kernels
    compute that without grad_lse from `out`, `v` and `grad_out` as they are given: with a channel more that
    is 0, 1 and grad_lse they compute it whole.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float) -> tuple[Tensor, Tensor]:
        out, lse, *rest = _forward(q, k, v, scale, shapes_vary=True)
        ctx.scale, ctx.rest = scale, rest
        ctx.save_for_backward(q, k, v, out, lse)
        return out, lse

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, out, lse = ctx.saved_tensors
        dim, room = v.shape[-1], -(v.shape[-1] + 1) % 8
        grad_lse = grads[1][..., : q.shape[2], None].to(q.dtype)
        grad_out = _widened(torch.cat([grads[0][..., :dim], grad_lse], -1), room)
        q, k, out = (_widened(x[..., :dim], 1 + room) for x in (q, k, out))
        v = _widened(torch.cat([v, torch.ones_like(v[..., :1])], -1), room)
        aten, given = torch.ops.aten, (grad_out, q, k, v)
        if not ctx.rest:
            found = aten._scaled_dot_product_flash_attention_for_cpu_backward(
                *given, out, lse, 0.0, False, scale=ctx.scale
            )
        elif ctx.rest[-1] == SDPBackend.FLASH_ATTENTION:
            counts, seeds = ctx.rest[:4], ctx.rest[4:6]
            found = aten._scaled_dot_product_flash_attention_backward(
                *given, out, lse, *counts, 0.0, False, *seeds, scale=ctx.scale
            )
        else:
            found = aten._scaled_dot_product_efficient_attention_backward(
                *given, None, out, lse, *ctx.rest[:2], 0.0, [True, True, True, False], scale=ctx.scale
            )[:3]
        return *(x[..., :dim] for x in found), None


def _widened(x: Tensor, channels: int) -> Tensor:
    """With so many channels of zeros more."""
    return F.pad(x, (0, channels)) if channels else x
