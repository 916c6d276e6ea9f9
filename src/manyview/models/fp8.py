"""Linear layers in fp8: e4m3 codes, a scale for each output channel and one for each token.

Special tokens are the outliers of such networks (QuantVGGT, arXiv 2509.21302); with a scale for each token
none costs another its resolution.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Float
from torch import Tensor

from ..kernels import fused

CODES = torch.float8_e4m3fn
_LARGEST = 448.0  # of e4m3
_TINY = 1e-12
_MULTIPLE = 16  # what the matrix units ask of both sides of a weight


@dataclasses.dataclass(frozen=True)
class Fp8Weight:
    """A weight [out, in] as codes and the scale [out, 1] (float32) of each of its rows."""

    codes: Float[Tensor, "out in_"]
    scale: Float[Tensor, "out 1"]

    @classmethod
    def of(cls, weight: Float[Tensor, "out in_"], kernels: str = "plain") -> Fp8Weight:
        return cls(*quantise(weight.detach(), kernels))

    def rows(self, rows: slice) -> Fp8Weight:
        """Some of the outputs."""
        return self if rows == slice(None) else Fp8Weight(self.codes[rows], self.scale[rows])


def quantise(
    x: Float[Tensor, "rows columns"], kernels: str = "plain"
) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "rows 1"]]:
    """Codes and scales, x ~ codes * scale; the largest entry of a row gets the largest code."""
    if x.stride(-1) == 1 and fused(kernels, x):
        from ..kernels.fp8_rows import quantise_rows

        return quantise_rows(x, _LARGEST, _TINY)
    least, most = torch.aminmax(x, dim=1, keepdim=True)
    scale = torch.maximum(most, -least).float().clamp(min=_TINY) / _LARGEST
    # Nothing is above the largest code by more than its own rounding takes back.
    return torch.div(x, scale).to(CODES), scale


def fits_fp8(weight: Tensor) -> bool:
    """Whether fp8 matrix units take this weight."""
    return not any(side % _MULTIPLE for side in weight.shape)


def has_fp8(device: torch.device) -> bool:
    """Whether a device multiplies fp8 itself: CUDA from capability 8.9."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def fp8_linear(
    x: Float[Tensor, "*batch in_"],
    weight: Fp8Weight,
    bias: Float[Tensor, " out"] | None,
    kernels: str = "plain",
) -> Float[Tensor, "*batch out"]:
    """x W^T + b from fp8 codes of x and W, summed in float32, in the precision of x.

    Where the device has no fp8 units, the same codes are multiplied in float32: the result differs from
    theirs by the order of summation alone.
    """
    flat = x.reshape(-1, x.shape[-1])
    codes, scale = quantise(flat, kernels)
    if has_fp8(x.device):
        offset = None if bias is None else bias.to(torch.bfloat16)
        out = torch._scaled_mm(
            codes,
            weight.codes.t(),
            scale_a=scale,
            scale_b=weight.scale.t(),
            bias=offset,
            out_dtype=torch.bfloat16,  # the only one for scales by row
            use_fast_accum=True,
        )
    else:
        out = (codes.float() @ weight.codes.float().t()).mul_(scale).mul_(weight.scale.t())
        if bias is not None:
            out += bias.float()
    return out.to(x.dtype).reshape(*x.shape[:-1], -1)
