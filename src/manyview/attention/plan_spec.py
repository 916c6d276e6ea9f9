"""Preset options from text: `avggt:early=3,stride=2x2` to a frozen dataclass, and back."""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from typing import Any

from .._option_checks import check_options
from ..errors import UsageError
from .methods import METHODS
from .preset import Preset


def preset_class(name: str) -> type[Preset]:
    """The preset of a method; raises UsageError for a name that is none."""
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}: choose from {', '.join(METHODS)}")
    file, _, kind = METHODS[name].partition(".")
    found: type[Preset] = getattr(importlib.import_module(f".methods.{file}", __package__), kind)
    return found


def preset_from_spec(spec: str) -> Preset:
    """The options of a preset from `name` or `name:option=value,...`.

    Pairs are written 3x2, truth values true and false, absent values none. Raises UsageError for an
    unknown preset or option, or a value of the wrong kind.
    """
    name, _, text = spec.strip().partition(":")
    kind = preset_class(name)
    known = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(kind)
    values = {}
    for part in text.split(",") if text else ():
        option, given, value = (piece.strip() for piece in part.partition("="))
        if option not in known or not given:
            options = ", ".join(f"{n}={_text(f.default)}" for n, f in known.items())
            raise UsageError(f"{name} has no option {part.strip()!r}; its options are {options}")
        if option in values:
            raise UsageError(f"{spec!r} gives {option} twice")
        values[option] = _value(value, hints[option], f"{name}: {option}")
    try:
        preset = kind(**values)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from error
    check_options(preset)
    return preset


def spec_of(preset: Preset) -> str:
    """The shortest spec that makes this preset."""
    changed = [
        f"{field.name}={_text(getattr(preset, field.name))}"
        for field in dataclasses.fields(preset)  # type: ignore[arg-type]
        if getattr(preset, field.name) != field.default
    ]
    return f"{preset.name}:{','.join(changed)}" if changed else preset.name


def _text(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return str(value).lower()
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _value(text: str, hint: Any, where: str) -> Any:
    choices = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        if text.lower() == "none" and type(None) in choices:
            return None
        return _value(text, next(c for c in choices if c is not type(None)), where)
    if typing.get_origin(hint) is typing.Literal:
        if text in choices:
            return text
        raise UsageError(f"{where} must be one of {', '.join(map(str, choices))}, not {text!r}")
    if typing.get_origin(hint) is tuple:
        parts = text.lower().split("x")
        if len(parts) == 1:
            parts *= 2
        if len(parts) != len(choices) or not all(part.isascii() and part.isdigit() for part in parts):
            raise UsageError(f"{where} must be two whole numbers such as 2x3, not {text!r}")
        return tuple(int(part) for part in parts)
    if hint is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise UsageError(f"{where} must be true or false, not {text!r}")
    try:
        return hint(text if text.isascii() else "")  # digits of other scripts are numbers to Python
    except ValueError:
        kind = {int: "a whole number", float: "a number"}.get(hint, hint.__name__)
        raise UsageError(f"{where} must be {kind}, not {text!r}") from None
