"""Several files moved into an output folder, and others removed: all or nothing, even if we are killed.

A commit is decided by one rename, of a record that lists what is to move. Whoever writes to the folder next
(`lock.sole_writer`) finishes what a record lists; without a record, what was not moved is removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from ..errors import OutputError
from .schema import read_json
from .writing import PARTIAL_PREFIX, check_writable, partial_name

COMMIT_NAME = ".manyview-commit.json"
_REMEDY = "remove it, or choose another folder"
RESUMABLE_PREFIX = f"{PARTIAL_PREFIX}long-"
"""Partial files that a later run continues."""


class _Record(msgspec.Struct):
    """What a commit moves (source by target), what it removes, and what was there before (size and time)."""

    moves: dict[str, str]
    removals: list[str]
    before: dict[str, tuple[int, int] | None]


def output_path(folder: Path, name: str) -> Path:
    """The file `name` (forward slashes) below `folder`, to be written, replaced or removed.

    Raises OutputError for a name that leads out of the folder, and where a link, a folder or a device is in
    its place or a link or a file in place of a folder above it.
    """
    parts = PurePosixPath(name).parts
    if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
        raise OutputError(f"{folder}: the name {name!r} leads out of it; remove the file that lists it")
    path = folder
    for part in parts:
        path = path / part
        if path.is_symlink():
            raise OutputError(
                f"{path}: is a link, and ManyView does not write through links below its output folder; "
                "move it away or choose another folder"
            )
        wanted = Path.is_file if path == folder / name else Path.is_dir
        if path.exists() and not wanted(path):
            kind = "a file" if wanted is Path.is_dir else "no regular file"
            raise OutputError(f"{path}: is {kind}, and is in the way; move it away or choose another folder")
    return path


@contextlib.contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """A new hidden folder in `folder`; what is left in it is removed, unless a commit is still to move it."""
    path = folder / partial_name()
    path.mkdir()
    try:
        yield path
    finally:
        if not (folder / COMMIT_NAME).exists():
            shutil.rmtree(path, ignore_errors=True)


def commit(folder: Path, moves: Mapping[str, Path], removals: Iterable[str] = ()) -> None:
    """Move finished files to their names in `folder`, and remove others; call it as the folder's sole writer.

    Args:
        folder: the output folder.
        moves: finished files, below `folder`, by the names (forward slashes) that they get in it.
        removals: names of files to remove.

    Raises:
        OutputError: a name is not allowed, or something is in its place (see `output_path`). Nothing has
            changed then.
    """
    removals = list(removals)
    record = _Record(
        moves={name: source.relative_to(folder).as_posix() for name, source in moves.items()},
        removals=removals,
        # What is replaced or removed: if it changes before an interrupted commit is finished, it stays.
        before={name: _identity(output_path(folder, name)) for name in (*moves, *removals)},
    )
    for name, source in moves.items():
        check_writable((folder / name).parent)
        flush(source)
    part = folder / partial_name()
    part.write_bytes(msgspec.json.encode(record))
    flush(part)
    os.replace(part, folder / COMMIT_NAME)
    flush(folder)
    try:
        _carry_out(folder, record)
    except KeyboardInterrupt:  # decided: a few renames more and it is done
        _carry_out(folder, record)
        raise


def recover(folder: Path) -> None:
    """Finish a commit that was interrupted, and remove what dead writers left; call it as the sole writer.

    Raises OutputError where a file that the commit would replace has changed since.
    """
    record = folder / COMMIT_NAME
    if record.exists() or record.is_symlink():
        _carry_out(folder, read_json(record, _Record, remedy=_REMEDY, error=OutputError))
    for left in folder.glob(f"{PARTIAL_PREFIX}*"):
        if left.name.startswith(RESUMABLE_PREFIX):
            continue
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        elif not _is_in_work(left):
            left.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Return when the content of a file, or the names in a folder, are on the disk."""
    if path.is_dir() and os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _carry_out(folder: Path, record: _Record) -> None:
    for name, source in record.moves.items():
        if not source.startswith(PARTIAL_PREFIX):
            raise OutputError(f"{folder / COMMIT_NAME}: {source!r} is not a partial file of ours; {_REMEDY}")
        target, place = output_path(folder, name), output_path(folder, source)
        if not place.exists():  # moved before we were interrupted
            continue
        if _identity(target) not in (None, record.before.get(name)):
            raise OutputError(
                f"{target}: has changed since a run was interrupted that was replacing it; "
                "move it away and run the command again"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(place, target)
    for name in record.removals:
        target = output_path(folder, name)
        if target.exists() and _identity(target) == record.before.get(name):
            target.unlink()
            with contextlib.suppress(OSError):  # the folder still holds other things, or is the output folder
                target.parent.rmdir()
    flush(folder)
    (folder / COMMIT_NAME).unlink(missing_ok=True)


def _identity(path: Path) -> tuple[int, int] | None:
    """Size and time of change of a file; None if there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_size, found.st_mtime_ns


def _is_in_work(path: Path) -> bool:
    """Whether the process in the name of a partial file still runs; ours is not writing it."""
    number = path.name.removeprefix(PARTIAL_PREFIX).partition("-")[0]
    if not number.isdecimal() or int(number) == os.getpid():
        return False
    try:
        os.kill(int(number), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # it runs and is another user's
        return True
    return True
