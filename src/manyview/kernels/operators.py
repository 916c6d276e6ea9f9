"""Launches of Triton kernels as operators of PyTorch, so that fake and meta tensors go the real ones' way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_LIBRARY = torch.library.Library("manyview", "FRAGMENT")


def operator(schema: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Makes a launch the operator `manyview::name` and returns that.

    A launch returns nothing and changes the arguments that its schema marks as written, `Tensor(a!)`; those
    called out are not read. On fake and meta tensors it does nothing, as it would change memory alone.
    """

    def register(launch: Callable[..., None]) -> Callable[..., None]:
        name = schema.split("(", 1)[0]
        _LIBRARY.define(f"{schema} -> ()")
        _LIBRARY.impl(name, launch, "CPU")  # in the interpreter
        _LIBRARY.impl(name, launch, "CUDA")
        _LIBRARY.impl(name, _nothing, "Meta")
        return getattr(torch.ops.manyview, name).default  # type: ignore[no-any-return]

    return register


def _nothing(*arguments: Any) -> None:
    """What a launch does to tensors without memory."""
