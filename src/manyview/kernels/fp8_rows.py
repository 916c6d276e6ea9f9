"""Rows to fp8 codes and their scales in one pass."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from .operators import operator

_ELEMENTS = 4096
_WARPS = 4


def quantise_rows(
    x: Float[Tensor, "rows columns"], largest: float, tiny: float
) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows 1"]]:
    """e4m3 codes and float32 scales, x ~ codes * scale; see `models.fp8.quantise`, the plain operations.

    One read of `x` and half as much written in bf16. The last dimension must be contiguous. `largest` is the
    largest code, `tiny` the least that a row's largest entry counts as.
    """
    rows, columns = x.shape
    codes = torch.empty(rows, columns, dtype=torch.float8_e4m3fn, device=x.device)
    scale = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    _quantise_rows(x, largest, tiny, codes, scale)
    return codes, scale


@operator("quantise_rows(Tensor x, float largest, float tiny, Tensor(a!) out, Tensor(b!) out_scale)")
def _quantise_rows(x: Tensor, largest: float, tiny: float, codes: Tensor, scale: Tensor) -> None:
    rows, columns = x.shape
    width = triton.next_power_of_2(columns)
    height = max(1, _ELEMENTS // width)
    if rows:
        _quantise[(triton.cdiv(rows, height),)](
            x, codes, scale, rows, columns, x.stride(0), largest, tiny,
            HEIGHT=height, WIDTH=width, num_warps=_WARPS,
        )  # fmt: skip


@triton.jit
def _quantise(
    x_ptr, codes_ptr, scale_ptr, rows, columns, stride, largest, tiny,
    HEIGHT: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * HEIGHT + tl.arange(0, HEIGHT)
    column = tl.arange(0, WIDTH)
    inside = (row < rows)[:, None] & (column < columns)[None, :]
    x = tl.load(x_ptr + row[:, None] * stride + column[None, :], mask=inside, other=0.0).to(tl.float32)
    scale = tl.maximum(tl.max(tl.abs(x), axis=1), tiny) / largest
    tl.store(scale_ptr + row, scale, mask=row < rows)
    y = x / scale[:, None]
    # Rounded to even here and not by the conversion, which is then exact: three bits of mantissa from 2^-6
    # on, steps of 2^-9 below. 24576 = 1.5 * 2^14 has its own last bit there.
    bits = y.to(tl.int32, bitcast=True)
    normal = ((bits + 0x7FFFF + ((bits >> 20) & 1)) & -0x100000).to(tl.float32, bitcast=True)
    small = (y + 24576.0) - 24576.0
    y = tl.where(tl.abs(y) < 0.015625, small, normal)
    tl.store(codes_ptr + row[:, None] * columns + column[None, :], y.to(tl.float8e4nv), mask=inside)
