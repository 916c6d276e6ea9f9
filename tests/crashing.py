"""Runs that die before one of their changes of the file system, as by a kill: nothing more of theirs runs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

_RENAMES = ("replace", "rename")
_ALL_CHANGES = (*_RENAMES, "unlink", "rmdir", "mkdir")
_KILLED = 137


def changes() -> tuple[str, ...]:
    """Before which changes to die: renames, and all others too where there is time (see CONTRIBUTING.md)."""
    return _ALL_CHANGES if "MANYVIEW_FUZZ_MINUTES" in os.environ else _RENAMES


def dies_at(point: int, run: Callable[[], object], kinds: tuple[str, ...] = _ALL_CHANGES) -> bool:
    """Call `run` in a forked process that ends at once before change number `point` (from 0) of these kinds.

    Returns False if the run was over before; AssertionError if it failed by itself.
    """
    pid = os.fork()
    if pid == 0:
        try:
            _silence()
            numbers = itertools.count()
            for name in kinds:
                setattr(os, name, _deadly(getattr(os, name), numbers, point))
            run()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, _KILLED), f"the run failed by itself, status {status}"
    return status == _KILLED


def every_death(
    run: Callable[[], object], prepare: Callable[[], None], kinds: tuple[str, ...] = _ALL_CHANGES
) -> Iterator[int]:
    """Each point at which `run` can die, after it did; `prepare` makes what it finds, each time anew."""
    for point in itertools.count():
        prepare()
        if not dies_at(point, run, kinds):
            return
        yield point


def _silence() -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)


def _deadly(change: Callable[..., Any], numbers: Iterator[int], point: int) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if next(numbers) == point:
            os._exit(_KILLED)
        return change(*args, **kwargs)

    return call
