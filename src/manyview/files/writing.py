"""Atomic writing of files, with OutputError when the disk is full or a folder may not be written to."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import OutputError

OWN_PREFIX = ".manyview-"
"""Of files that a writer keeps in its output folder for itself."""
PARTIAL_PREFIX = f"{OWN_PREFIX}partial-"
# Created by file browsers.
_SYSTEM_FILES = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def format_bytes(count: float) -> str:
    """Bytes for a person: "812 B", "3.4 MB", "12 GB" (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def entries(folder: Path) -> list[str]:
    """Names in a folder, without files of file browsers and those that a writer of ours keeps for itself."""
    return sorted(
        item.name
        for item in folder.iterdir()
        if item.name not in _SYSTEM_FILES and not item.name.startswith(OWN_PREFIX)
    )


@contextlib.contextmanager
def output_errors(
    target: Path, needed_bytes: int, remedy: str = "free some space or choose another disk"
) -> Iterator[None]:
    """Turn operating-system failures while writing `target` into one sentence (`OutputError`).

    `remedy` ends the sentence about a disk that is full.
    """
    try:
        yield
    except Exception as error:
        # safetensors reports I/O failures of its Rust side as text only.
        named = re.search(r"os error (\d+)", str(error))
        number = getattr(error, "errno", None) or (named and int(named[1]))
        if number in _DISK_FULL:
            raise OutputError(
                f"{target}: the disk is full; writing needs {format_bytes(needed_bytes)}, "
                f"nothing was left half written; {remedy}"
            ) from error
        if number == errno.EFBIG:
            raise OutputError(
                f"{target}: writing needs {format_bytes(needed_bytes)}, and a file may not be so large here; "
                "choose another disk, or raise the limit (ulimit -f)"
            ) from error
        if number in _FORBIDDEN:
            place = getattr(error, "filename", None) or target
            raise OutputError(f"{place}: no permission to write there; choose another folder") from error
        if isinstance(error, FileExistsError | NotADirectoryError):
            raise OutputError(
                f"{error.filename or target}: a file is in the way of a folder; choose another output folder"
            ) from error
        raise


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise OutputError when the disk that holds `folder` has less than `needed_bytes` free."""
    free = shutil.disk_usage(_nearest_existing(folder)).free
    if free < needed_bytes:
        raise OutputError(
            f"{folder}: writing needs {format_bytes(needed_bytes)} and the disk has {format_bytes(free)} "
            "free; free some space or choose another disk"
        )


def check_whole(folder: Path, files: Iterable[Path]) -> None:
    """Raise OSError where the disk is full or a file as large as it may be: libraries may not notice."""
    if shutil.disk_usage(folder).free == 0:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
    try:
        import resource
    except ImportError:  # not on Windows
        return
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit != resource.RLIM_INFINITY and any(file.stat().st_size >= limit for file in files):
        raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(folder))


def check_writable(folder: Path) -> None:
    """Raise OutputError when `folder`, or the nearest one that exists, may not be written to."""
    existing = _nearest_existing(folder)
    if existing.is_dir() and not os.access(existing, os.W_OK | os.X_OK):
        raise OutputError(f"{existing}: no permission to write there; choose another folder")


def _nearest_existing(folder: Path) -> Path:
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    return existing


def make_readable(path: Path) -> None:
    """Give `path` the permissions of any new file: safetensors makes files that only their owner can read."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod(0o666 & ~mask)


def partial_name() -> str:
    """A fresh name for a file or folder that is not finished."""
    return f"{PARTIAL_PREFIX}{os.getpid()}-{uuid.uuid4().hex[:8]}"


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the place of `path` only if the block succeeds.

    Raises OutputError for a `path` that is a device, a pipe or a folder; a link is replaced, not followed.
    """
    if os.path.lexists(path) and stat.S_IFMT(path.lstat().st_mode) not in (stat.S_IFREG, stat.S_IFLNK):
        raise OutputError(f"{path}: is no regular file, so it is not replaced; choose another place")
    temporary = path.with_name(partial_name())
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_files(folder: Path, contents: Mapping[str, str | dict[str, Any]]) -> list[Path]:
    """Write each text, or JSON without NaN, under its name, whole or not at all; the folder is made.

    Raises OutputError where that fails.
    """
    with output_errors(folder, 0), created_folder(folder):
        for name, content in contents.items():
            text = content
            if not isinstance(text, str):
                text = json.dumps(text, indent=1, allow_nan=False) + "\n"
            with output_errors(folder / name, len(text)), atomic_file(folder / name) as part:
                part.write_text(text, encoding="utf-8")
    return [folder / name for name in contents]


def check_new_file(path: Path, overwrite: bool) -> None:
    """Raise OutputError if a file cannot be written, or is there and not to be replaced.

    Ask before long work. What is no regular file (a device, a folder, a link) is never replaced.
    """
    if not _nearest_existing(path.parent).is_dir():
        raise OutputError(f"{path}: a file is in the way of its folder; choose another place")
    if os.path.lexists(path):
        if not stat.S_ISREG(path.lstat().st_mode):
            raise OutputError(f"{path}: is no regular file, so it is not replaced; choose another place")
        if not overwrite:
            raise OutputError(f"{path}: is there already; choose another place or add --overwrite")
    check_writable(path.parent)


def check_results_folder(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    """`check_new_file` for files of these names in a folder."""
    for name in names:
        check_new_file(folder / name, overwrite)


@contextlib.contextmanager
def created_folder(folder: Path) -> Iterator[None]:
    """Make `folder` and its parents; if the block fails, remove what was made and is empty."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for made in missing:
            with contextlib.suppress(OSError):
                made.rmdir()
        raise
