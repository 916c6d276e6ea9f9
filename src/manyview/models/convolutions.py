"""Convolutions whose arithmetic and memory order follow their input, as `layers` do for the trunk."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .precision import PLAIN, Compute, in_dtype


class Conv2d(nn.Conv2d):
    def forward(self, input: Tensor, compute: Compute = PLAIN) -> Tensor:
        return self._conv_forward(input, *_parameters_for(input, self.weight, self.bias, compute))


class ConvTranspose2d(nn.ConvTranspose2d):
    """Without a choice of `output_size`."""

    def forward(self, input: Tensor, compute: Compute = PLAIN) -> Tensor:  # type: ignore[override]
        assert isinstance(self.padding, tuple)
        weight, bias = _parameters_for(input, self.weight, self.bias, compute)
        return F.conv_transpose2d(input, weight, bias, self.stride, self.padding)


def _parameters_for(
    x: Tensor, weight: Tensor, bias: Tensor | None, compute: Compute
) -> tuple[Tensor, Tensor | None]:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    order = torch.channels_last if last else torch.contiguous_format
    bias = None if bias is None else in_dtype(bias, x.dtype, compute)
    return in_dtype(weight, x.dtype, compute, order), bias
