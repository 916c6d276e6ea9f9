"""Layers whose arithmetic (and convolutions their memory order) follows their input, and a loop over pieces.

Parameters keep the precision they were loaded in; a run chooses its own by the dtype of the tokens it
passes in, so that running a model never changes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..kernels import fused
from .precision import PLAIN, Compute, in_dtype, linear, linear_gelu

_NORM_NUMBERS = 1 << 32  # PyTorch 2.11 counts them in 32 bits on CUDA


class Linear(nn.Linear):
    def forward(self, input: Tensor, compute: Compute = PLAIN) -> Tensor:
        return linear(input, self.weight, self.bias, compute)


class LayerNorm(nn.LayerNorm):
    def forward(self, input: Tensor, compute: Compute = PLAIN) -> Tensor:
        if fused(compute.kernels, input, *self.affine()):
            from ..kernels.row_norm import layer_norm

            return layer_norm(input, self.weight, self.bias, self.eps)
        weight, bias = (
            None if one is None else in_dtype(one, input.dtype, compute) for one in (self.weight, self.bias)
        )

        def norm(x: Tensor) -> Tensor:
            return F.layer_norm(x, self.normalized_shape, weight, bias, self.eps)

        if input.numel() < _NORM_NUMBERS:
            return norm(input)
        longest = max(range(input.ndim - 1), key=lambda dim: input.shape[dim])
        rows = (_NORM_NUMBERS - 1) // (input.numel() // input.shape[longest])
        return in_pieces(norm, input, rows, dim=longest)

    def affine(self) -> tuple[Tensor, ...]:
        """The factors, if there are any: they say whether gradients are wanted."""
        return () if self.weight is None else (self.weight,)


class PlainSum(nn.Module):
    """The residual sum of blocks without LayerScale."""

    gamma: nn.Parameter | None

    def __init__(self) -> None:
        super().__init__()
        self.register_parameter("gamma", None)

    def add_to(self, x: Tensor, branch: Tensor, inplace: bool = False, compute: Compute = PLAIN) -> Tensor:
        """x + branch; `inplace` overwrites x."""
        return x.add_(branch) if inplace else x + branch

    def add_and_norm(
        self, x: Tensor, branch: Tensor, norm: LayerNorm, inplace: bool = False, compute: Compute = PLAIN
    ) -> tuple[Tensor, Tensor]:
        """The sum as `add_to` has it, and its norm; in place a kernel makes both in one pass."""
        if inplace and fused(compute.kernels, x, branch, *norm.affine()):
            return x, self.fused_norm(x, branch, norm)
        x = self.add_to(x, branch, inplace, compute)
        return x, norm(x, compute)

    def fused_norm(self, x: Tensor, branch: Tensor, norm: LayerNorm, later: Tensor | None = None) -> Tensor:
        """The sum in place and its norm, in one pass; `later` is added to what is stored, not to the norm."""
        from ..kernels.row_norm import add_scaled_norm

        return add_scaled_norm(x, branch, self.gamma, norm.weight, norm.bias, norm.eps, later)


class LayerScale(PlainSum):
    """One learned factor per channel; applied together with the residual sum."""

    gamma: nn.Parameter

    def __init__(self, dim: int, initial: float = 0.01) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def add_to(self, x: Tensor, branch: Tensor, inplace: bool = False, compute: Compute = PLAIN) -> Tensor:
        """x + gamma * branch; `inplace` overwrites x."""
        gamma = in_dtype(self.gamma, x.dtype, compute)
        return x.addcmul_(branch, gamma) if inplace else torch.addcmul(x, branch, gamma)


class Mlp(nn.Module):
    """Linear, GELU, linear."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, out or dim)

    def forward(self, x: Tensor, compute: Compute = PLAIN) -> Tensor:
        return self.fc2(self.hidden(x, compute), compute)

    def hidden(self, x: Tensor, compute: Compute = PLAIN) -> Tensor:
        """What the last linear layer reads."""
        return linear_gelu(x, self.fc1.weight, self.fc1.bias, compute)

    @property
    def last(self) -> Linear:
        """The last linear layer."""
        return self.fc2


class SwiGlu(nn.Module):
    """w3(silu(a) * b) with [a, b] = w12(x); two thirds of `hidden`, in whole eights (arXiv 2002.05202)."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        width = (hidden * 2 // 3 + 7) // 8 * 8
        self.w12 = Linear(dim, 2 * width)
        self.w3 = Linear(width, dim)

    def forward(self, x: Tensor, compute: Compute = PLAIN) -> Tensor:
        return self.w3(self.hidden(x, compute), compute)

    def hidden(self, x: Tensor, compute: Compute = PLAIN) -> Tensor:
        """What the last linear layer reads."""
        gate, value = self.w12(x, compute).chunk(2, dim=-1)
        return F.silu(gate) * value

    @property
    def last(self) -> Linear:
        """The last linear layer."""
        return self.w3


def in_pieces(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
    size: int | None,
    *,
    dim: int = 1,
    out_dim: int | None = None,
) -> Tensor:
    """`function(x)`, computed on pieces of `size` along `dim` and joined along `out_dim`.

    Only the pieces' temporaries are alive at a time. With gradients on, or nothing to split, it is
    one call.
    """
    total = x.shape[dim]
    if size is None or size >= total or torch.is_grad_enabled():
        return function(x)

    def run(part: slice) -> Tensor:
        return function(x.narrow(dim, part.start, part.stop - part.start))

    return in_slices(run, total, size, dim if out_dim is None else out_dim)[0]


def in_slices(
    run: Callable[[slice], Sequence[Tensor] | Tensor], total: int, size: int | None, dim: int = 0
) -> list[Tensor]:
    """The outputs of `run`, each `total` long along `dim`, computed on slices of `size` (None: on one)."""
    results: list[Tensor] = []
    step = size or total
    for start in range(0, total, step):
        part = slice(start, min(start + step, total))
        out = run(part)
        outputs = [out] if isinstance(out, Tensor) else list(out)
        if step >= total:
            return outputs
        if not results:
            sizes = ([*o.shape[:dim], total, *o.shape[dim + 1 :]] for o in outputs)
            results = [o.new_empty(size) for o, size in zip(outputs, sizes, strict=True)]
        for whole, o in zip(results, outputs, strict=True):
            whole.narrow(dim, start, o.shape[dim]).copy_(o)
        del out, outputs
    return results


class Conv2d(nn.Conv2d):
    def forward(self, input: Tensor, compute: Compute = PLAIN) -> Tensor:
        return self._conv_forward(input, *_conv_parameters(input, self.weight, self.bias, compute))


class ConvTranspose2d(nn.ConvTranspose2d):
    """Without a choice of `output_size`."""

    def forward(self, input: Tensor, compute: Compute = PLAIN) -> Tensor:  # type: ignore[override]
        assert isinstance(self.padding, tuple)
        weight, bias = _conv_parameters(input, self.weight, self.bias, compute)
        return F.conv_transpose2d(input, weight, bias, self.stride, self.padding)


def _conv_parameters(
    x: Tensor, weight: Tensor, bias: Tensor | None, compute: Compute
) -> tuple[Tensor, Tensor | None]:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    order = torch.channels_last if last else torch.contiguous_format
    bias = None if bias is None else in_dtype(bias, x.dtype, compute)
    return in_dtype(weight, x.dtype, compute, order), bias
