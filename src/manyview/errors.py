"""The errors a user can meet. Each message says what was wrong, what was expected and the remedy.

`exit_code` is what the command line returns: 2 for misuse (the request cannot be right), 1 for a
failure while doing what was asked.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any

OLDEST_TORCH = (2, 6)


class ManyViewError(Exception):
    """Base of every error this package raises on purpose; the message is one sentence for a person."""

    exit_code = 1


class UsageError(ManyViewError):
    """The request itself cannot be carried out: a bad option, a missing path, an unknown name."""

    exit_code = 2


class InputError(UsageError):
    """The photos or the video cannot be used: missing, empty, or with fewer views than needed."""


class DamagedInputError(ManyViewError):
    """One file of the input is damaged; the message names it."""


class WeightsError(ManyViewError):
    """A checkpoint cannot be used: not a checkpoint, truncated, another model, or not finite."""


class NotDownloadedError(WeightsError):
    """Weights that are not on this machine, and whose download could not begin."""


class OutputError(ManyViewError):
    """The result cannot be written: the folder holds something else, or the disk is full."""


class MemoryLimitError(ManyViewError):
    """The run does not fit; the message gives the numbers and the cheapest settings that would."""


class RemoteError(ManyViewError):
    """An error of another process, with the exit code that it has there."""

    def __init__(self, sentence: str, exit_code: int = 1) -> None:
        super().__init__(sentence)
        self.exit_code = exit_code


class RankError(RemoteError):
    """A process of a run over several failed; the message names it and says why."""


class ServerError(RemoteError):
    """A server refused a request, a job failed there, or the server cannot be reached."""


def in_one_sentence(error: Exception) -> tuple[str, int]:
    """The message of an error for a user, and the exit status."""
    if isinstance(error, ManyViewError):
        return str(error), error.exit_code
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}", 1
    return f"unexpected {type(error).__name__}: {error} (run again with --debug for details)", 1


def out_of_memory(error: BaseException) -> bool:
    """True for the errors with which Python, PyTorch and image decoders report that memory ran out."""
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    reports = ("allocate memory", "not enough memory", "out of memory", "std::bad_alloc")
    return isinstance(error, RuntimeError | OSError) and any(text in str(error) for text in reports)


@contextlib.contextmanager
def memory_errors() -> Iterator[None]:
    """Raises MemoryLimitError where memory runs out in whatever way."""
    try:
        yield
    except ManyViewError:
        raise
    except (MemoryError, RuntimeError, OSError) as error:
        if not out_of_memory(error):
            raise
        raise MemoryLimitError(
            "memory ran out; use fewer views (--max-frames), smaller images (--image-size) or "
            "--precision bf16, or give the program more memory"
        ) from error


class MissingExtraError(UsageError):
    """An optional library is needed; the message names the extra to install."""

    def __init__(self, what: str, extra: str) -> None:
        remedy = f"install it with: pip install 'manyview[{extra}]'"
        super().__init__(f"{what} needs an optional library; {remedy}")


def optional_module(name: str, what: str, extra: str) -> Any:
    """The module `name` of an optional library. Raises MissingExtraError that says `what` needs it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(what, extra) from error


def require_torch() -> None:
    """Raise ManyViewError without a PyTorch that is new enough; it is not imported for that."""
    oldest = ".".join(map(str, OLDEST_TORCH))
    try:
        version = importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError as error:
        raise ManyViewError(
            f"PyTorch is not installed; ManyView needs {oldest} or newer: pip install torch, or take the "
            "build that suits this machine from pytorch.org"
        ) from error
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if numbers is not None and (int(numbers[1]), int(numbers[2])) < OLDEST_TORCH:
        raise ManyViewError(
            f"PyTorch {version} is installed; ManyView needs {oldest} or newer: pip install --upgrade torch"
        )


def require_plot(what: str = "the plot") -> None:
    """Raise MissingExtraError unless plots can be drawn; ask before long work."""
    optional_module("matplotlib", what, "plot")
