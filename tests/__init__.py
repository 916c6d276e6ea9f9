"""Tests. `checked` checks shapes and types of every call of the package in them (see pyproject.toml)."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import jaxtyping
import torch
from beartype import BeartypeConf, beartype

_beartyped = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as for type checkers
_state = {"off": False}
_ENOUGH = 6
_calls: Counter[tuple[str, str]] = Counter()
_resting: list[Callable[..., Any]] = []


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with beartype's checks, except inside `wrong_types_allowed`.

    After so many calls within a test a function goes unchecked for the rest of it, and functions inside
    functions, which are made anew at each call, always do: all checks would take two fifths of the time.
    """
    if "<locals>" in function.__qualname__:
        return function
    strict: Callable[..., Any] | None = None  # made at the first call: most functions are not called at all
    name = function.__module__, function.__qualname__

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal strict
        _calls[name] += 1
        if _calls[name] == _ENOUGH and (whole := _found(*name)) is not None:
            whole.__no_type_check__ = True  # jaxtyping then calls straight through
            _resting.append(whole)
        if _state["off"] or torch.compiler.is_compiling():
            return function(*args, **kwargs)
        strict = strict or _beartyped(function)
        return strict(*args, **kwargs)

    return call


def check_all_again() -> None:
    """Before each test: every function is checked from its first call on."""
    _calls.clear()
    while _resting:
        del _resting.pop().__no_type_check__


def _found(module: str, qualname: str) -> Any:
    """The function of that name as jaxtyping wrapped it, or None (functions in functions)."""
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        if not inspect.ismodule(found) and not inspect.isclass(found):
            return None
        found = vars(found).get(part)
    found = found.fget if isinstance(found, property) else getattr(found, "__func__", found)
    return found if inspect.isfunction(found) and hasattr(found, "__wrapped__") else None


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
