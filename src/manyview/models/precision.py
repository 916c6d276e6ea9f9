"""How the modules of a network compute in one pass: fused kernels, linear precision, weights converted once.

Parameters keep the precision they were loaded in, and modules hold no state of a run: how they compute is an
argument of `forward`. With gradients on, and in compiled code, linear layers are plain and nothing is kept.
"""

from __future__ import annotations

import dataclasses
import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .fp8 import Fp8Weight, fits_fp8, fp8_linear
from .run_options import RunOptions

R = TypeVar("R")


class ConvertedWeights:
    """Parameters in another form, each made when first asked for and again when the parameter has changed.

    A change is seen by the parameter's version, place and storage; entries die with their parameter.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[int, object], tuple[weakref.ref[Tensor], object, object]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def clear(self) -> None:
        """Forget everything."""
        self._made.clear()

    def get(self, parameter: Tensor, form: object, make: Callable[[Tensor], R]) -> R:
        """`make(parameter)`, kept under the name `form`."""
        if parameter.is_inference():  # such tensors count no versions
            return make(parameter)
        key, stamp = (id(parameter), form), (parameter._version, parameter.data_ptr(), parameter.device)
        kept = self._made.get(key)
        if kept is not None and kept[0]() is parameter and kept[1] == stamp:
            return kept[2]  # type: ignore[return-value]
        made = make(parameter.detach())
        forget = functools.partial(_forget, weakref.ref(self), key)
        self._made[key] = (weakref.ref(parameter, forget), stamp, made)
        return made


def _forget(owner: weakref.ref[ConvertedWeights], key: tuple[int, object], _: object) -> None:
    alive = owner()
    if alive is not None:
        alive._made.pop(key, None)


@dataclasses.dataclass(frozen=True, eq=False)
class Compute:
    """How modules compute in one pass, handed down as an argument of every `forward`.

    Args:
        kernels: "plain", "norms" or "triton", see `kernels.fused`.
        linear_precision: arithmetic of linear layers, one of `LINEAR_PRECISIONS`.
        weights: where converted weights are kept; None converts them anew at each call.
        gelu: "exact", or its "tanh" approximation.
        lasting: whether what was converted is asked for again after its block has run, by other pieces of the
            input or other passes.
    """

    kernels: str = "plain"
    linear_precision: str = "plain"
    weights: ConvertedWeights | None = None
    gelu: str = "exact"
    lasting: bool = False

    @classmethod
    def for_trunk(cls, options: RunOptions, weights: ConvertedWeights | None = None) -> Compute:
        """Encoder and layers; `weights` are shared by several passes (None: kept while they are in use)."""
        lasting = weights is not None
        weights = ConvertedWeights() if weights is None else weights
        kept = weights if options.keep_weights else None
        return cls(options.kernels, options.linear_precision, kept, options.gelu, lasting)

    @classmethod
    def for_heads(cls, options: RunOptions, weights: ConvertedWeights | None = None) -> Compute:
        """A head, whose linear layers are plain; `weights` are shared by several passes."""
        shared = options.keep_weights and weights is not None
        return cls(options.kernels, weights=weights if shared else ConvertedWeights())

    def in_pieces(self, pieces: bool) -> Compute:
        """For blocks that run once more for each of several `pieces` of the input."""
        return dataclasses.replace(self, lasting=self.lasting or pieces)

    def block_done(self) -> None:
        """Give back what a block has converted, so that the next block's takes its place in memory."""
        if self.weights is not None and not self.lasting:
            self.weights.clear()


PLAIN = Compute()


def in_dtype(
    parameter: Tensor,
    dtype: torch.dtype,
    compute: Compute = PLAIN,
    order: torch.memory_format = torch.contiguous_format,
) -> Tensor:
    """The parameter in another precision or memory order; converted once where the pass keeps that."""
    if parameter.dtype == dtype and parameter.is_contiguous(memory_format=order):
        return parameter
    return made_once(parameter, (dtype, order), lambda p: p.to(dtype, memory_format=order), compute)


def made_once(parameter: Tensor, form: object, make: Callable[[Tensor], R], compute: Compute = PLAIN) -> R:
    """`make(parameter)`, kept under the name `form` where the pass keeps converted weights."""
    weights = None if _differentiable() else compute.weights
    if weights is None or not isinstance(parameter, nn.Parameter):
        return make(parameter)
    return weights.get(parameter, form, make)


def linear(
    x: Float[Tensor, "*batch in_"],
    weight: Float[Tensor, "out in_"],
    bias: Float[Tensor, " out"] | None,
    compute: Compute = PLAIN,
    rows: slice | None = None,
) -> Float[Tensor, "*batch part"]:
    """x W^T + b in the precision of x, or on fp8 codes; `rows` takes a part of the outputs."""
    rows = slice(None) if rows is None else rows
    offset = None if bias is None else in_dtype(bias, x.dtype, compute)[rows]
    if _differentiable():
        return F.linear(x, weight[rows].to(x.dtype), offset)
    if compute.linear_precision == "fp8" and fits_fp8(weight):
        make = functools.partial(Fp8Weight.of, kernels=compute.kernels)
        codes = make(weight) if compute.weights is None else compute.weights.get(weight, "fp8", make)
        return fp8_linear(x, codes.rows(rows), offset, compute.kernels)
    if compute.weights is None:  # a part of it is less to convert
        return F.linear(x, weight[rows].to(x.dtype), offset)
    return F.linear(x, in_dtype(weight, x.dtype, compute)[rows], offset)


def linear_gelu(
    x: Float[Tensor, "*batch in_"],
    weight: Float[Tensor, "out in_"],
    bias: Float[Tensor, " out"] | None,
    compute: Compute = PLAIN,
) -> Float[Tensor, "*batch out"]:
    """GELU of x W^T + b; its tanh form is the product's own epilogue in 16 bits on CUDA."""
    together = compute.gelu == "tanh" and compute.linear_precision == "plain"
    low = x.dtype in (torch.bfloat16, torch.float16) and (x.is_cuda or x.is_meta)
    if bias is None or not (together and low) or _differentiable():
        approximate = "tanh" if compute.gelu == "tanh" else "none"
        return F.gelu(linear(x, weight, bias, compute), approximate=approximate)
    weight, offset = in_dtype(weight, x.dtype, compute), in_dtype(bias, x.dtype, compute)
    return torch._addmm_activation(offset, x.flatten(0, -2), weight.t(), use_gelu=True).view(
        *x.shape[:-1], len(weight)
    )


def scaled_linear(
    layer: nn.Linear, gamma: Tensor | None, dtype: torch.dtype, compute: Compute
) -> tuple[Float[Tensor, "out in_"], Float[Tensor, " out"]] | None:
    """Weight and bias of a layer whose output is multiplied by `gamma` (None: by one), for a product that
    adds to its result.

    Kept with the pass's other weights; None where it keeps none, or its linear layers are not plain.
    """
    weight, bias = layer.weight, layer.bias
    if compute.weights is None or compute.linear_precision != "plain" or bias is None:
        return None
    if gamma is None:
        return in_dtype(weight, dtype, compute), in_dtype(bias, dtype, compute)
    factor = gamma.detach()
    version = None if gamma.is_inference() else gamma._version  # such tensors count no versions
    form = ("scaled", dtype, id(gamma), version)
    return (
        compute.weights.get(weight, form, lambda w: (w * factor[:, None]).to(dtype)),
        compute.weights.get(bias, form, lambda b: b * factor),
    )


def _differentiable() -> bool:
    """With gradients on, and in compiled code, which cannot look up what is kept."""
    return torch.compiler.is_compiling() or torch.is_grad_enabled()
