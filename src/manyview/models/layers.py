"""Layers whose arithmetic follows the dtype of their input, and a loop over pieces.

Parameters keep the precision they were loaded in; a run chooses its own by the dtype of the tokens it
passes in, so that running a model never changes it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def _as(parameter: Tensor | None, like: Tensor) -> Tensor | None:
    return None if parameter is None else parameter.to(like.dtype)


class Linear(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input, self.weight.to(input.dtype), _as(self.bias, input))


class LayerNorm(nn.LayerNorm):
    def forward(self, input: Tensor) -> Tensor:
        weight, bias = _as(self.weight, input), _as(self.bias, input)
        return F.layer_norm(input, self.normalized_shape, weight, bias, self.eps)


class LayerScale(nn.Module):
    """One learned factor per channel; applied together with the residual sum."""

    def __init__(self, dim: int, initial: float = 0.01) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def add_to(self, x: Tensor, branch: Tensor, inplace: bool = False) -> Tensor:
        """x + gamma * branch; `inplace` overwrites x."""
        gamma = self.gamma.to(x.dtype)
        return x.addcmul_(branch, gamma) if inplace else torch.addcmul(x, branch, gamma)


class PlainSum(nn.Module):
    """The residual sum of blocks without LayerScale."""

    def add_to(self, x: Tensor, branch: Tensor, inplace: bool = False) -> Tensor:
        """x + branch; `inplace` overwrites x."""
        return x.add_(branch) if inplace else x + branch


class Mlp(nn.Module):
    """Linear, exact GELU, linear."""

    def __init__(self, dim: int, hidden: int, out: int | None = None) -> None:
        super().__init__()
        self.fc1 = Linear(dim, hidden)
        self.fc2 = Linear(hidden, out or dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


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
    out_dim = dim if out_dim is None else out_dim
    result: Tensor | None = None
    for start in range(0, total, size):
        piece = function(x.narrow(dim, start, min(size, total - start)))
        if result is None:
            shape = list(piece.shape)
            shape[out_dim] = total
            result = piece.new_empty(shape)
        result.narrow(out_dim, start, piece.shape[out_dim]).copy_(piece)
        del piece
    assert result is not None
    return result
