"""What a person sees: lines on standard output, bars on standard error for what takes long."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ..errors import OutputError
from ..files.naming import printable

_PATIENCE_S = 2.0


def say(text: str) -> None:
    """One line of a command's result; a closed output is no error (`| head -1`, `>&-`)."""
    if sys.stdout is None:
        return
    text = "\n".join(map(printable, text.split("\n")))
    encoding = sys.stdout.encoding or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered goes nowhere too, or Python would complain when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        raise OutputError(f"standard output cannot be written: {error.strerror or error}") from error


def quality_line(quality: Mapping[str, Any]) -> str:
    """The verdict on a result (`Reconstruction.quality`) in one line."""
    grade = quality["grade"]
    return f"quality: {grade + ': ' if grade else ''}{quality['sentence']}"


def say_notes(notes: Iterable[str], said: Collection[str] = ()) -> None:
    """What a person should know of a run, a line each, but for those that were `said` already."""
    for note in notes:
        if note not in said:
            say(f"note: {printable(note)}")


def say_warnings(warnings: Iterable[str]) -> None:
    """What a person must know of a result, a line each."""
    for warning in warnings:
        say(f"warning: {printable(warning)}")


def say_written(files: Iterable[Path]) -> None:
    """One line that names every file."""
    say("written: " + ", ".join(printable(str(path)) for path in files))


def command_line() -> str:
    """The command that runs, as it is stored in results."""
    return printable(shlex.join(["manyview", *sys.argv[1:]]))


def written(name: str, files: Sequence[Path], folder: Path) -> str:
    """One line on what an export wrote: up to three names, or the first and how many more."""
    names = [str(file.relative_to(folder)) if file.is_relative_to(folder) else str(file) for file in files]
    if len(names) > 3:
        names = [*names[:2], f"{len(names) - 2} more files"]
    return printable(f"{name}: {', '.join(names)} in {folder}")


class Bars:
    """Progress bars, one a stage; call it with (stage, done, total). Silent when not on a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._started: dict[str, float] = {}

    def __enter__(self) -> Bars:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if not self._console.is_terminal:
            return
        first = self._started.setdefault(stage, time.monotonic())
        if stage not in self._tasks:
            if time.monotonic() - first < _PATIENCE_S or done >= total:
                return
            self._tasks[stage] = self._bars().add_task(stage, total=total)
        self._bars().update(self._tasks[stage], completed=done, total=total)

    def _bars(self) -> Progress:
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description:>12}", markup=False),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                TextColumn("{task.percentage:3.0f} %"),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=self._console,
                transient=True,
            )
            self._progress.start()
        return self._progress


def log_to_stderr(debug: bool) -> None:
    """What the library logs is shown, a line each."""
    handler = logging.StreamHandler()
    handler.setFormatter(_OneLine("%(message)s"))
    logger = logging.getLogger("manyview")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG if debug else logging.INFO)
    logger.propagate = False
    # Its retries are reported by ManyView, in one sentence; it sets the level by this when it is imported.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")


class _OneLine(logging.Formatter):
    """Messages name files: what they hold besides text is escaped. Tracebacks (--debug) keep their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return printable(super().formatMessage(record))


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """What schedulers send before they kill ends the run like Ctrl-C, so that its scenes are free at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with contextlib.suppress(ImportError):
        import pycolmap  # noqa: F401  (its first import replaces the handler, in whatever thread that is)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def fail(sentence: str, status: int) -> int:
    """Say why a command failed; returns its exit status."""
    if sys.stderr is None:  # closed by the caller: the exit status remains
        return status
    sys.stderr.write(f"manyview: {printable(' '.join(sentence.split()))}\n")
    return status
