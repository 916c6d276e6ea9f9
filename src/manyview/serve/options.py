"""Options of a job as flat JSON, from the dataclasses of a command: described, checked, and built again."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import textwrap
import typing
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import UsageError
from ..files.naming import printable
from ..files.schema import convert, parse_json


class FlatOptions:
    """The fields of a dataclass and of those within it, by name.

    What names a path, and the `own` options of the server, are left out and refused.
    """

    def __init__(self, kind: type, own: Collection[str] = ()) -> None:
        self._kind = kind
        known = list(_leaves(kind))
        self._refused = {name for name, hint, _, _ in known if name in own or _holds(hint, Path)}
        fields = [
            (name, Annotated[hint, msgspec.Meta(description=about)], dataclasses.field(default=default))
            for name, hint, default, about in known
            if name not in self._refused
        ]
        self._flat = dataclasses.make_dataclass("JobOptions", fields, kw_only=True)

    def schema(self) -> dict[str, Any]:
        """JSON schema, with what the command's help says of each option."""
        found: dict[str, Any] = msgspec.json.schema(self._flat)["$defs"]["JobOptions"]
        return {**found, "additionalProperties": False}

    def parse(self, text: bytes) -> dict[str, Any]:
        """The options that a JSON object gives, as JSON types. Raises UsageError."""
        try:
            return self.check(parse_json(text, dict[str, Any]))
        except ValueError as error:
            raise UsageError(f"the options are not a JSON object ({error})") from error

    def check(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """`given`, if it is options with values of their types. Raises UsageError that names one."""
        known = [field.name for field in dataclasses.fields(self._flat)]
        for name in given:
            if name in self._refused:
                raise UsageError(f"the option {name} is the server's own; leave it out")
            if name not in known:
                raise UsageError(
                    f"there is no option {printable(name)[:80]!r}; there are: {', '.join(known)}"
                )
        try:
            convert(dict(given), self._flat)
        except ValueError as error:
            raise UsageError(f"the options cannot be used: {error}") from error
        return dict(given)

    def built(self, given: Mapping[str, Any]) -> Any:
        """The dataclass with these options, its defaults else. Raises UsageError."""
        flat: Any = convert(self.check(given), self._flat)
        return _built(self._kind, {name: getattr(flat, name) for name in given})


def _leaves(kind: type) -> Iterator[tuple[str, Any, Any, str]]:
    """(name, type, default, description) of each field that is no dataclass itself."""
    hints = typing.get_type_hints(kind, include_extras=True)
    about = _descriptions(kind)
    for field in dataclasses.fields(kind):
        hint = hints[field.name]
        marks = getattr(hint, "__metadata__", ())
        if dataclasses.is_dataclass(hint):
            yield from _leaves(typing.cast(type, hint))
            continue
        help_text = next((mark.help for mark in marks if getattr(mark, "help", None)), None)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        plain = hint.__origin__ if marks else hint
        yield field.name, plain, default, help_text or about.get(field.name, "")


def _built(kind: type, values: Mapping[str, Any]) -> Any:
    hints = typing.get_type_hints(kind)
    found = {}
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[field.name]):
            found[field.name] = _built(hints[field.name], values)
        elif field.name in values:
            found[field.name] = values[field.name]
    return kind(**found)


def _descriptions(kind: type) -> dict[str, str]:
    """The text below each field of a class and of those that it derives from, which help texts show."""
    found: dict[str, str] = {}
    for one in reversed([base for base in kind.__mro__ if dataclasses.is_dataclass(base)]):
        body = ast.parse(textwrap.dedent(inspect.getsource(one))).body[0]
        statements = body.body if isinstance(body, ast.ClassDef) else []
        for before, after in itertools.pairwise(statements):
            if isinstance(before, ast.AnnAssign) and isinstance(before.target, ast.Name):
                text = after.value if isinstance(after, ast.Expr) else None
                if isinstance(text, ast.Constant) and isinstance(text.value, str):
                    found[before.target.id] = " ".join(text.value.split())
    return found


def _holds(hint: Any, kind: type) -> bool:
    return hint is kind or any(_holds(part, kind) for part in typing.get_args(hint))
