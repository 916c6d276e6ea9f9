"""Layer norm of rows, alone or in the same pass as the residual sum before it."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .operators import operator

# Elements a program handles: at 1,024 channels in bf16 four rows, 8 KB read and as much written, 32 a thread.
_ELEMENTS = 4096
_WARPS = 4


def layer_norm(
    x: Float[Tensor, "*batch dim"],
    weight: Float[Tensor, " dim"] | None,
    bias: Float[Tensor, " dim"] | None,
    eps: float,
) -> Float[Tensor, "*batch dim"]:
    """Normalised rows, contiguous, in the dtype of `x`; statistics and affine part in float32.

    One read of `x`, whatever its strides over tokens and batch, and one write.
    """
    rows = _rows(x)
    out = torch.empty(rows.shape, dtype=x.dtype, device=x.device)
    _layer_norm(rows, weight, bias, eps, out)
    return out.view(x.shape)


def add_scaled_norm(
    x: Float[Tensor, "batch tokens dim"],
    branch: Float[Tensor, "batch tokens dim"],
    gamma: Float[Tensor, " dim"] | None,
    weight: Float[Tensor, " dim"] | None,
    bias: Float[Tensor, " dim"] | None,
    eps: float,
    later: Float[Tensor, " dim"] | None = None,
) -> Float[Tensor, "batch tokens dim"]:
    """Overwrite `x` with x + gamma * branch (None: x + branch) and return the layer norm of that.

    The norm is that of the sum rounded to the dtype of `x`. What is stored has `later` added to it: the bias
    of a product that is summed into `x` next. Two reads, two writes; apart, the sum and the norm take one
    read more. Last dimensions must be contiguous.
    """
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    _add_scaled_norm(x, branch, gamma, weight, bias, later, eps, out)
    return out


def _rows(x: Tensor) -> Tensor:
    """As [outer, rows, dim] with a contiguous last dimension; copies only what has no such view."""
    if x.ndim != 3:
        x = x.reshape(1, -1, x.shape[-1])
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


@operator("layer_norm(Tensor x, Tensor? weight, Tensor? bias, float eps, Tensor(a!) out)")
def _layer_norm(x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, out: Tensor) -> None:
    _launch(x, None, None, weight, bias, None, eps, out)


@operator(
    "add_scaled_norm(Tensor(a!) x, Tensor branch, Tensor? gamma, Tensor? weight, Tensor? bias, "
    "Tensor? later, float eps, Tensor(b!) out)"
)
def _add_scaled_norm(
    x: Tensor,
    branch: Tensor,
    gamma: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    later: Tensor | None,
    eps: float,
    out: Tensor,
) -> None:
    _launch(x, branch, gamma, weight, bias, later, eps, out)


def _launch(
    x: Tensor,
    branch: Tensor | None,
    gamma: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    later: Tensor | None,
    eps: float,
    out: Tensor,
) -> None:
    outer, inner, dim = x.shape
    total = outer * inner
    if total == 0 or dim == 0:
        return
    block = triton.next_power_of_2(dim)
    rows = max(1, _ELEMENTS // block)
    added = x if branch is None else branch
    _kernel[(triton.cdiv(total, rows),)](
        x,
        added,
        x if gamma is None else gamma,
        out,
        x if weight is None else weight,
        x if bias is None else bias,
        x if later is None else later,
        total,
        inner,
        dim,
        x.stride(0),
        x.stride(1),
        added.stride(0),
        added.stride(1),
        eps,
        ADDS=branch is not None,
        SCALES=gamma is not None,
        WEIGHT=weight is not None,
        BIAS=bias is not None,
        LATER=later is not None,
        ROWS=rows,
        BLOCK=block,
        num_warps=max(_WARPS, block // 1024),
    )


@triton.jit
def _kernel(
    x_ptr, branch_ptr, gamma_ptr, out_ptr, weight_ptr, bias_ptr, later_ptr,
    total, inner, dim, x_outer, x_row, branch_outer, branch_row, eps,
    ADDS: tl.constexpr, SCALES: tl.constexpr, WEIGHT: tl.constexpr, BIAS: tl.constexpr,
    LATER: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    # 64 bits from here on: 3,000 frames of 1,041 tokens with 1,024 channels pass 2**31 elements.
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, BLOCK)
    there = (row < total)[:, None] & (column < dim)[None, :]
    outer, place = row // inner, row % inner
    at = (outer * x_outer + place * x_row)[:, None] + column[None, :]
    x = tl.load(x_ptr + at, there, other=0.0).to(tl.float32)
    if ADDS:
        branch_at = (outer * branch_outer + place * branch_row)[:, None] + column[None, :]
        branch = tl.load(branch_ptr + branch_at, there, other=0.0).to(tl.float32)
        if SCALES:
            branch *= tl.load(gamma_ptr + column, column < dim, other=0.0).to(tl.float32)[None, :]
        stored = (x + branch).to(x_ptr.dtype.element_ty)
        x = stored.to(tl.float32)
        if LATER:
            later = tl.load(later_ptr + column, column < dim, other=0.0).to(tl.float32)
            stored = (x + later[None, :]).to(x_ptr.dtype.element_ty)
        tl.store(x_ptr + at, stored, there)
    centred = tl.where(there, x - (tl.sum(x, 1) / dim)[:, None], 0.0)
    y = centred * (1.0 / tl.sqrt(tl.sum(centred * centred, 1) / dim + eps))[:, None]
    if WEIGHT:
        y *= tl.load(weight_ptr + column, column < dim, other=0.0).to(tl.float32)[None, :]
    if BIAS:
        y += tl.load(bias_ptr + column, column < dim, other=0.0).to(tl.float32)[None, :]
    tl.store(out_ptr + (row * dim)[:, None] + column[None, :], y.to(out_ptr.dtype.element_ty), there)
