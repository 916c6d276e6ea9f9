"""One writer per output folder."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from ..errors import OutputError
from .transaction import COMMIT_NAME, recover
from .writing import created_folder, output_errors

LOCK_NAME = ".manyview-lock"


@contextlib.contextmanager
def sole_writer(folder: Path, needed_bytes: int = 0) -> Iterator[None]:
    """Hold `folder` as the only process, and the only thread, that writes there; reentrant.

    The folder is made if it is missing, and removed again if the block fails and left nothing in it. On entry
    a commit that was interrupted is finished and leftovers of dead writers are removed. The lock is the
    system's: it ends with the process that holds it, however that ends.

    Args:
        folder: the output folder.
        needed_bytes: what the block will write, for the message when the disk is full.

    Raises:
        OutputError: at once if another process writes there, which the message names; if the folder cannot
            be made or written to; and for failures of the disk within the block.
    """
    with output_errors(folder, needed_bytes):
        check_folder(folder)
        with created_folder(folder):
            lock = FileLock(folder.resolve() / LOCK_NAME, is_singleton=True)
            first = not lock.is_locked
            try:
                lock.acquire(blocking=False)
            except Timeout:
                raise OutputError(
                    f"{folder}: {_holder(folder)} is writing there; wait for it, or choose another folder"
                ) from None
            try:
                if first:
                    _sign(folder)
                    recover(folder)
                yield
            finally:
                if first:  # while it is held: who waits for it notices that it is gone
                    (folder / LOCK_NAME).unlink(missing_ok=True)
                lock.release()


def finish_interrupted(folder: Path) -> None:
    """Finish a commit that a killed writer left in `folder`, before it is read; raises as `sole_writer`."""
    if (folder / COMMIT_NAME).exists():
        with sole_writer(folder):
            pass


def check_folder(folder: Path) -> None:
    """Raise OutputError where `folder` cannot be made: below a file, at a link that leads nowhere."""
    for path in (folder, *folder.absolute().parents):
        if path.is_dir():
            return
        if path.exists():
            raise OutputError(f"{path}: is a file, a folder was expected; choose another output folder")
        if path.is_symlink():
            raise OutputError(f"{path}: is a link that leads nowhere; choose another output folder")


def _sign(folder: Path) -> None:
    """Say in the lock who holds it; a full disk does not matter here."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / LOCK_NAME, os.O_WRONLY | os.O_TRUNC | getattr(os, "O_NOFOLLOW", 0))
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(f"process {os.getpid()} on {socket.gethostname()}")


def _holder(folder: Path) -> str:
    text = ""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        text = (folder / LOCK_NAME).read_text(encoding="utf-8")[:200]
    return text if text.startswith("process ") and text.isprintable() else "another process"
