"""How documents and files are damaged, and what must hold for whoever reads them."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from manyview.errors import ManyViewError

from .. import wrong_types_allowed

MINUTES = float(os.environ.get("MANYVIEW_FUZZ_MINUTES", "0.5"))
LONGEST_S = 20
"""An example that takes longer hangs."""

DEEP: list[Any] = []
for _ in range(100):
    DEEP = [DEEP]

ODD = (
    None,
    True,
    -1,
    0,
    1,
    2,
    1.5,
    -0.0,
    10**9,
    2**40,
    2**63,
    10**30,
    1e300,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    "x",
    "../outside/victim.txt",
    "/dev/zero",
    "\udcff",
    "\u202e\x1b[31m",
    "a" * 10_000,
    [],
    {},
    [1, 2, 3, 4],
    {"a": 1},
    DEEP,
)


def examples(at_half_a_minute: int) -> Callable[[Any], Any]:
    """Settings of a fuzz test: so many examples by default, more in proportion to MANYVIEW_FUZZ_MINUTES."""
    return settings(
        max_examples=max(1, round(at_half_a_minute * 2 * MINUTES)),
        deadline=None,
        database=None,
        derandomize=MINUTES <= 1,
        suppress_health_check=list(HealthCheck),
    )


def places(document: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every entry of a document, as the keys and indices that lead to it."""
    keys = document if isinstance(document, dict) else range(min(len(document), 4))
    for key in keys:
        yield (*place, key)
        if isinstance(document[key], dict | list):
            yield from places(document[key], (*place, key))


@st.composite
def mutated(draw: st.DrawFn, document: Any, most: int = 2) -> Any:
    """The document with one or two entries deleted, replaced, wrapped or doubled."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, most))):
        there = list(places(changed))
        if not there:
            return draw(st.sampled_from(ODD))
        *parents, last = draw(st.sampled_from(there))
        where = changed
        for key in parents:
            where = where[key]
        how = draw(st.sampled_from(("delete", "replace", "replace", "replace", "wrap", "text", "add")))
        if how == "delete":
            del where[last]
        elif how == "add" and isinstance(where, dict):
            where["unheard of"] = copy.deepcopy(draw(st.sampled_from(ODD)))
        else:
            odd = copy.deepcopy(draw(st.sampled_from(ODD)))
            where[last] = {"wrap": [where[last]], "text": str(where[last])}.get(how, odd)
    return changed


def json_bytes(document: Any) -> bytes:
    """JSON with NaN and lone surrogates as Python's own module writes them."""
    return json.dumps(document).encode()


@st.composite
def damaged(draw: st.DrawFn, content: bytes, head: int = 2000) -> bytes:
    """The bytes cut short, with some replaced, or a piece left out or doubled; mostly at the head."""
    data = bytearray(content)
    end = draw(st.sampled_from((min(head, len(data)), len(data))))
    at = st.integers(0, max(0, end - 1))
    how = draw(st.sampled_from(("cut", "flip", "flip", "flip", "remove", "double")))
    if how == "cut":
        return bytes(data[: draw(st.integers(0, len(data)))])
    start = draw(at)
    stop = start + draw(st.integers(1, 16))
    if how == "remove":
        del data[start:stop]
    elif how == "double":
        data[start:start] = data[start:stop]
    else:
        for place in draw(st.lists(at, min_size=1, max_size=8)):
            if place < len(data):
                data[place] = draw(st.sampled_from((0, 1, 0x2D, 0x30, 0x39, 0x65, 0x7F, 0x80, 0xFF)))
    return bytes(data)


def snapshot(folder: Path) -> dict[str, bytes]:
    """All files of a folder, links not followed."""
    found = (path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir())
    return {
        str(path): os.readlink(path).encode() if path.is_symlink() else path.read_bytes() for path in found
    }


@contextlib.contextmanager
def only_our_errors(outside: Path | None = None, *more: type[Exception]) -> Iterator[None]:
    """The block ends in time, well or with an error of ours (or of `more`), and `outside` is as it was."""
    before = None if outside is None else snapshot(outside)

    def expired(*_: object) -> None:
        raise AssertionError(f"still running after {LONGEST_S} s")

    earlier = signal.signal(signal.SIGALRM, expired)
    signal.alarm(LONGEST_S)
    try:
        with wrong_types_allowed(), contextlib.suppress(ManyViewError, *more):
            yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, earlier)
    assert outside is None or snapshot(outside) == before
