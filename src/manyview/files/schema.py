"""Strict reading of anyone's JSON: regular files only, limits on size and depth, types by msgspec.

A schema is a `msgspec.Struct` or a frozen dataclass whose annotations say what a document may hold. Text
never stands for a number, a number is finite, and an error names the file and the entry.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from types import GenericAlias
from typing import Annotated, Any, BinaryIO, TypeVar

import msgspec
import numpy as np

from ..errors import DamagedInputError, ManyViewError

MAX_BYTES = 2**28
"""Bytes of a JSON document, far more than any that is written."""
MAX_DEPTH = 64
"""Lists and objects inside one another."""

Natural = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""A count; every program reads it exactly."""
Count = Annotated[int, msgspec.Meta(ge=1, lt=2**53)]
"""A count of at least one."""
Positive = Annotated[float, msgspec.Meta(gt=0, le=1e300)]
"""A finite number above zero."""
Finite = Annotated[float, msgspec.Meta(ge=-1e300, le=1e300)]
"""A number that is neither NaN nor infinite (a value in memory, unlike JSON, may be)."""
Duration = Annotated[float, msgspec.Meta(ge=0, le=1e300)]
"""Seconds."""

_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\Z)', re.DOTALL)
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_KINDS = ((stat.S_ISDIR, "folder"), (stat.S_ISFIFO, "fifo"), (stat.S_ISSOCK, "socket"))

T = TypeVar("T")


def check_regular(path: str | os.PathLike[str]) -> int:
    """Size in bytes of a regular file; OSError for anything else, such as a fifo (opening one waits)."""
    return _regular(os.stat(path), path)


def open_regular(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading; OSError for anything else, without waiting for it."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    try:
        _regular(os.fstat(descriptor), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _regular(status: os.stat_result, path: str | os.PathLike[str]) -> int:
    if not stat.S_ISREG(status.st_mode):
        kind = next((name for test, name in _KINDS if test(status.st_mode)), "device")
        raise OSError(errno.EINVAL, f"it is a {kind}, not a file", os.fspath(path))
    return status.st_size


def read_regular(path: str | os.PathLike[str], most: int = MAX_BYTES) -> bytes:
    """All bytes of a regular file; OSError for anything else and for one of more than `most` bytes."""
    with open_regular(path) as file:
        data = file.read(most + 1)
    if len(data) > most:
        raise OSError(errno.EINVAL, f"it is larger than {most} bytes", os.fspath(path))
    return data


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a regular file in hexadecimal digits; OSError for anything else."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def read_json(
    path: str | os.PathLike[str],
    kind: type[T] | GenericAlias,
    *,
    remedy: str,
    error: type[ManyViewError] = DamagedInputError,
    unreadable: type[ManyViewError] | None = None,
    most: int = MAX_BYTES,
) -> T:
    """Read a JSON file as `kind`.

    Args:
        path: The file.
        kind: Schema: a `msgspec.Struct`, a dataclass, or any type that msgspec knows.
        remedy: What to do if it cannot be used, the end of the sentence.
        error: Raised if the content is not of this kind.
        unreadable: Raised if the file is missing, not a regular file or may not be read; None: `error`.
        most: Largest size in bytes.

    Returns:
        The document.

    Raises:
        ManyViewError: `error` or `unreadable`; the message names the file and the entry.
    """
    path = Path(path)
    try:
        data = read_regular(path, most)
    except (OSError, ValueError) as cause:  # ValueError: a NUL in the path
        why = getattr(cause, "strerror", None) or str(cause)
        raise (unreadable or error)(f"{path}: cannot be read ({why}); {remedy}") from cause
    with schema_errors(str(path), remedy, error):
        return parse_json(data, kind)


@contextlib.contextmanager
def schema_errors(source: str, remedy: str, error: type[ManyViewError] = DamagedInputError) -> Iterator[None]:
    """Turn the ValueError of `parse_json` and `convert` into one sentence about `source`."""
    try:
        yield
    except ValueError as cause:
        raise error(f"{source}: is not the JSON that was expected ({cause}); {remedy}") from cause


def parse_json(data: bytes | str, kind: type[T] | GenericAlias) -> T:
    """JSON as `kind`, strictly; a ValueError names the entry that is wrong."""
    data = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    _check_depth(data)
    with _phrased():
        if not _SURROGATE.search(data):
            return msgspec.json.decode(data, type=kind)
        # Names of files that are no UTF-8 hold lone surrogates, which only the json module reads.
        plain = json.loads(data.decode("utf-8"), parse_constant=_no_constant, parse_float=_finite_float)
        return msgspec.convert(plain, kind)


def convert(value: Any, kind: type[T] | GenericAlias, *, known_only: bool = False) -> T:
    """Plain Python values as `kind`, strictly; a ValueError names the entry that is wrong.

    `known_only` refuses fields that a dataclass, at whatever depth, does not have.
    """
    with _phrased():
        found = msgspec.convert(value, kind)
    if known_only:
        _refuse_unknown(value, found, "")
    return found


def _refuse_unknown(value: Any, found: Any, place: str) -> None:
    if dataclasses.is_dataclass(found) and isinstance(value, dict):
        names = sorted(field.name for field in dataclasses.fields(found))
        for name in sorted(value.keys() - set(names)):
            raise ValueError(f"{place}unknown {name}; known are {', '.join(names)}")
        for name, entry in value.items():
            _refuse_unknown(entry, getattr(found, name), f"{place}{name}: ")
    elif isinstance(found, tuple):
        for index, (entry, one) in enumerate(zip(value, found, strict=True)):
            _refuse_unknown(entry, one, f"{place}{index}: ")


@contextlib.contextmanager
def _phrased() -> Iterator[None]:
    """msgspec's and json's errors as ValueError "views[3].name: expected str, got int"."""
    try:
        yield
    except UnicodeError as error:
        raise ValueError("it is not UTF-8") from error
    except (ValueError, RecursionError, OverflowError) as error:
        message, _, place = " ".join(str(error).split()).replace("`", "").partition(" - at ")
        place = place.removeprefix("key in ").removeprefix("$").lstrip(".")
        raise ValueError(f"{place}: {message}" if place else message) from error


def _check_depth(data: bytes) -> None:
    brackets = np.frombuffer(_STRING.sub(b"", data).translate(None, _NOT_BRACKETS), dtype=np.uint8)
    opening = (brackets == ord("[")) | (brackets == ord("{"))
    if brackets.size and np.where(opening, 1, -1).cumsum().max() > MAX_DEPTH:
        raise ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no number")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is out of range")
    return value
