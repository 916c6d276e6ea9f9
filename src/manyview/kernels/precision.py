"""Products and roundings that give the same on a GPU and in the interpreter."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def dot(a, b, INTERPRETED: tl.constexpr):
    """The product, summed in single precision; float32 as three TF32 products, which is as precise.

    The interpreter cannot multiply bfloat16.
    """
    if INTERPRETED:
        return tl.dot(a.to(tl.float32), b.to(tl.float32))
    return tl.dot(a, b, input_precision="tf32x3" if a.dtype == tl.float32 else None)


@triton.jit
def rounded(x, TYPE: tl.constexpr, INTERPRETED: tl.constexpr):
    """Single precision as the nearest `TYPE`, ties to even as GPUs do; the interpreter truncates bfloat16."""
    if INTERPRETED and TYPE == tl.bfloat16:  # noqa: SIM300
        bits = x.to(tl.uint32, bitcast=True)
        x = (bits + 0x7FFF + ((bits >> 16) & 1)).to(tl.float32, bitcast=True)
    return x.to(TYPE)
