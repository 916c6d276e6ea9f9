"""Checks of option dataclasses: values of their declared types, numbers that are finite and in range."""

from __future__ import annotations

import dataclasses
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import UsageError

# Whole numbers are exact as floating-point numbers up to here; no count, size or time is larger.
LARGEST = 2**53


def check_options(
    options: Any,
    *,
    at_least: Mapping[str, float] = types.MappingProxyType({}),
    above: Mapping[str, float] = types.MappingProxyType({}),
) -> None:
    """Check the fields of a dataclass, also those of dataclasses within it.

    Args:
        options: The dataclass. A field that is None, where it may be, is in every range.
        at_least: The smallest value of fields, by name.
        above: What fields must be above, by name.

    Raises:
        UsageError: A value is of another type than its field, not finite, or out of range; it is named.
    """
    hints = _field_types(type(options))
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in hints and not _is_of(value, hints[field.name]):
            raise UsageError(f"{field.name} must be {_described(hints[field.name])}, not {_shown(value)}")
        _check_numbers(field.name, value)
    for name, limit in at_least.items():
        value = getattr(options, name)
        if value is not None and not value >= limit:
            raise UsageError(f"{name} must be at least {limit:g}, not {_shown(value)}")
    for name, limit in above.items():
        value = getattr(options, name)
        if value is not None and not value > limit:
            raise UsageError(f"{name} must be above {limit:g}, not {_shown(value)}")


def check_instance(name: str, value: Any, kind: type) -> None:
    """Raise UsageError unless an argument is of a class."""
    if not isinstance(value, kind):
        raise UsageError(f"{name} must be a {kind.__name__}, not {_shown(value)}")


def _check_numbers(name: str, value: Any) -> None:
    if isinstance(value, list | tuple):
        for item in value:
            _check_numbers(name, item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _check_numbers(field.name, getattr(value, field.name))
    elif isinstance(value, numbers.Real) and not _in_range(value):
        raise UsageError(f"{name} must be a finite number of at most 2^53, not {_shown(value)}")


def _in_range(value: Any) -> bool:
    return bool(-LARGEST <= value <= LARGEST)  # False for NaN


def _field_types(kind: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(kind)
    except NameError:  # names that only type checkers see
        return {}


def _is_of(value: Any, hint: Any) -> bool:
    """Whether a value has a declared type; True for declarations that say more than this looks at."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_is_of(value, each) for each in arguments)
    if origin is typing.Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, Sequence) or isinstance(value, str):
            return False
        each = [arguments[0]] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(value) == len(each) and all(map(_is_of, value, each))
    if hint in (int, float):
        kind = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, kind) and not isinstance(value, bool)
    if hint in (bool, str, type(None)) or dataclasses.is_dataclass(hint):
        return isinstance(value, hint)
    return True


def _described(hint: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "True or False", str: "text", type(None): "None"}
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_described(each) for each in arguments)
    if typing.get_origin(hint) is typing.Literal:
        return " or ".join(map(repr, arguments))
    if typing.get_origin(hint) is tuple:
        each = dict.fromkeys(a for a in arguments if a is not Ellipsis)
        return "a sequence of " + " and ".join(map(_described, each))
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
