"""Every option of every command, from the dataclasses that the commands are parsed into."""

from __future__ import annotations

import dataclasses
import importlib
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tyro

from manyview.cli.main import COMMANDS


@dataclasses.dataclass(frozen=True)
class Option:
    """One option: the words of its command, `--name`, the kind of its values and how many it takes."""

    words: tuple[str, ...]
    flag: str
    kind: type
    count: int

    def with_value(self, value: str) -> list[str]:
        return [self.flag, *([value] * self.count)]

    def __str__(self) -> str:
        return " ".join((*self.words, self.flag))


def every_option() -> list[Option]:
    found = []
    for verb, (module, name) in COMMANDS.items():
        command = getattr(importlib.import_module(f"manyview.cli.{module}"), name)
        for words, fields in _subcommands((verb,), command):
            found += list(_options(words, fields))
    return found


def _subcommands(words: tuple[str, ...], kind: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    for hint in typing.get_type_hints(kind, include_extras=True).values():
        parts = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else ()
        named = [part for part in parts if hasattr(part, "__metadata__")]
        if named:
            # Commands of one class have the same options.
            one_of_each = {part.__origin__: part for part in reversed(named)}
            for part in one_of_each.values():
                yield (*words, part.__metadata__[0].name), part.__origin__
            return
    yield words, kind


def _options(words: tuple[str, ...], kind: Any) -> Iterator[Option]:
    hints = typing.get_type_hints(kind, include_extras=True)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        marks = getattr(hint, "__metadata__", ())
        hint = hint.__origin__ if marks else hint
        if any(mark in (tyro.conf.Positional, tyro.conf.Suppress) for mark in marks):
            continue
        if dataclasses.is_dataclass(hint):
            yield from _options(words, hint)
            continue
        flag = "--" + field.name.replace("_", "-")
        for each in _leaves(hint):
            yield Option(words, flag, *each)


def _leaves(hint: Any) -> Iterator[tuple[type, int]]:
    """Kinds of single values and how many are given together."""
    arguments = typing.get_args(hint)
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        for each in arguments:
            yield from _leaves(each)
    elif typing.get_origin(hint) is tuple:
        for kind, _ in _leaves(arguments[0]):
            yield kind, 1 if arguments[-1] is Ellipsis else len(arguments)
    elif hint in (int, float, str, Path):
        yield hint, 1
