"""How linear layers of the trunk compute: in the run's precision, or in fp8; and weights converted once.

Parameters keep the precision they were loaded in. What a run makes of them lives in its `Converted`, outside
the model: a pass owns one, and a caller that runs many passes keeps one open around them all.
"""

from __future__ import annotations

import contextlib
import functools
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import NamedTuple, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .fp8 import Fp8Weight, fits_fp8, fp8_linear
from .run_options import LINEARS, RunOptions

P = ParamSpec("P")
R = TypeVar("R")


class Converted:
    """Parameters in another form, each made when first asked for and again when the parameter has changed.

    A change is seen by the parameter's version, place and storage; entries die with their parameter.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[int, object], tuple[weakref.ref[Tensor], object, object]] = {}

    def __len__(self) -> int:
        return len(self._made)

    def get(self, parameter: Tensor, form: object, make: Callable[[Tensor], R]) -> R:
        """`make(parameter)`, kept under the name `form`."""
        if parameter.is_inference():  # nothing tells when such a tensor changes
            return make(parameter)
        key, stamp = (id(parameter), form), (parameter._version, parameter.data_ptr(), parameter.device)
        kept = self._made.get(key)
        if kept is not None and kept[0]() is parameter and kept[1] == stamp:
            return kept[2]  # type: ignore[return-value]
        made = make(parameter.detach())
        forget = functools.partial(_forget, weakref.ref(self), key)
        self._made[key] = (weakref.ref(parameter, forget), stamp, made)
        return made


def _forget(owner: weakref.ref[Converted], key: tuple[int, object], _: object) -> None:
    alive = owner()
    if alive is not None:
        alive._made.pop(key, None)


class _Choice(NamedTuple):
    linears: str
    converted: Converted | None


_chosen: ContextVar[_Choice | None] = ContextVar("manyview_linears", default=None)


@contextlib.contextmanager
def use_linears(
    linears: str = "plain", keep: bool = True, converted: Converted | None = None
) -> Iterator[None]:
    """Choose the arithmetic of linear layers inside; weights are converted once for all that runs inside.

    A context within another of this kind shares what that one keeps. Without `keep` every call converts its
    own; `converted` is where they are kept beyond the context. With gradients on, linear layers are plain
    and nothing is kept. Raises ValueError for an unknown name.
    """
    if linears not in LINEARS:
        raise ValueError(f"unknown linears {linears!r}: choose from {', '.join(LINEARS)}")
    outer = _chosen.get()
    if not keep:
        converted = None
    elif outer is not None and outer.converted is not None:
        converted = outer.converted
    elif converted is None:
        converted = Converted()
    token = _chosen.set(_Choice(linears, converted))
    try:
        yield
    finally:
        _chosen.reset(token)


def with_its_linears(method: Callable[P, R]) -> Callable[P, R]:
    """Run a method of a trunk in the context that its `RunOptions` argument asks for."""

    @functools.wraps(method)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        options = next(a for a in (*args, *kwargs.values()) if isinstance(a, RunOptions))
        with use_linears(options.linears, options.keep_weights):
            return method(*args, **kwargs)

    return inside


def in_dtype(
    parameter: Tensor, dtype: torch.dtype, order: torch.memory_format = torch.contiguous_format
) -> Tensor:
    """The parameter in another precision or memory order; converted once where a run keeps that."""
    if parameter.dtype == dtype and parameter.is_contiguous(memory_format=order):
        return parameter
    choice = _current()
    if choice is None or choice.converted is None or not isinstance(parameter, nn.Parameter):
        return parameter.to(dtype, memory_format=order)
    return choice.converted.get(parameter, (dtype, order), lambda p: p.to(dtype, memory_format=order))


def linear(
    x: Float[Tensor, "*batch in_"],
    weight: Float[Tensor, "out in_"],
    bias: Float[Tensor, " out"] | None,
    rows: slice | None = None,
) -> Float[Tensor, "*batch part"]:
    """x W^T + b in the precision of x, by the linears in force; `rows` takes a part of the outputs."""
    rows = slice(None) if rows is None else rows
    choice = _current()
    offset = None if bias is None else in_dtype(bias, x.dtype)[rows]
    if choice is not None and choice.linears != "plain" and fits_fp8(weight):
        per_tensor = choice.linears == "fp8-tensor"
        make = functools.partial(Fp8Weight.of, per_tensor=per_tensor)
        kept = choice.converted
        codes = make(weight) if kept is None else kept.get(weight, choice.linears, make)
        return fp8_linear(x, codes.rows(rows), offset, per_tensor)
    if choice is None or choice.converted is None:  # a part of it is less to convert
        return F.linear(x, weight[rows].to(x.dtype), offset)
    return F.linear(x, in_dtype(weight, x.dtype)[rows], offset)


def _current() -> _Choice | None:
    """What is in force; nothing with gradients on, and nothing in compiled code, which cannot look it up."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled():
        return None
    return _chosen.get()
