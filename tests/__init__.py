"""Tests. `checked` checks shapes and types of every call of the package in them (see pyproject.toml)."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for type checkers
_state = {"off": False}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with beartype's checks, except inside `wrong_types_allowed`."""
    strict = _beartyped(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        off = _state["off"] or torch.compiler.is_compiling()
        return (function if off else strict)(*args, **kwargs)

    return call


@contextlib.contextmanager
def wrong_types_allowed() -> Iterator[None]:
    """Calls go unchecked inside: what a test hands over may be what annotations forbid."""
    before = _state["off"]
    _state["off"] = True
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        _state["off"] = before
        jaxtyping.config.update("jaxtyping_disable", before)
