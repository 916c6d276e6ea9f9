"""Names of an earlier release that still work for one more, each with a DeprecationWarning."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def warn_renamed(old: str, new: str, stacklevel: int = 2) -> None:
    """Warn at the caller's caller that `old` is now called `new`."""
    warnings.warn(
        f"{old} is now called {new}; the old name goes in the next release",
        DeprecationWarning,
        stacklevel + 1,
    )


def renamed_arguments(
    arguments: Mapping[str, Any], names: Mapping[str, str], stacklevel: int = 2
) -> dict[str, Any]:
    """Keyword arguments under the names of today."""
    result = dict(arguments)
    for old in names.keys() & arguments.keys():
        warn_renamed(old, names[old], stacklevel + 1)
        result[names[old]] = result.pop(old)
    return result


class RenamedAttribute:
    """In the body of a class, an attribute of an earlier release: `old = RenamedAttribute("new")`."""

    def __init__(self, new: str) -> None:
        self.new = new

    def __set_name__(self, owner: type, name: str) -> None:
        self.old = name

    def __get__(self, instance: object, owner: type) -> Any:
        if instance is None:
            return self
        warn_renamed(f"{owner.__name__}.{self.old}", self.new)
        return getattr(instance, self.new)


def new_names(cls: type) -> dict[str, str]:
    """Today's name of each `RenamedAttribute` of a class."""
    return {name: value.new for name, value in vars(cls).items() if isinstance(value, RenamedAttribute)}


def accepts_renamed(cls: type[T]) -> type[T]:
    """Class decorator: the names of `RenamedAttribute`s are keyword arguments of the constructor too."""
    names, init = new_names(cls), cls.__init__

    @functools.wraps(init)
    def with_old_names(self: T, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **renamed_arguments(kwargs, names))

    cls.__init__ = with_old_names  # type: ignore[assignment]
    return cls
