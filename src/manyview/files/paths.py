"""Paths that are read from files, and file names that are made from the names of views.

Both stay inside their folder, whoever wrote the name. Paths of any bytes as text for JSON.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import unquote_to_bytes

from ..errors import InputError

# What Windows does not take in a name, controls, and halves of surrogate pairs (bytes that are no UTF-8).
_REPLACED = re.compile(r'[<>:"|?*\\\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)", re.IGNORECASE)
_LONGEST_PART = 255  # bytes, of file systems
_LONGEST_NAME = 1024  # bytes: the folder that it is written to takes its share of a path's 4096


def resolve_inside(
    folder: str | Path, name: str, source: str | Path, *, links_may_leave: bool = False
) -> Path:
    """The file or folder that a name stands for which was read from a file; it need not exist.

    Args:
        folder: What the name is relative to; it may be a link itself.
        name: As it was read: relative, with forward slashes or those of the system.
        source: The file that holds the name, for the message.
        links_may_leave: Do not look where links lead: for folders that the user's own programs fill with
            links (the cache of the Hugging Face hub).

    Returns:
        The path below `folder`.

    Raises:
        InputError: The name is empty, absolute, has a drive letter or leaves the folder by `..` or by links.
    """
    path = Path(folder, name)
    try:
        lexical, lexical_folder = os.path.abspath(path), os.path.abspath(folder)
        real, real_folder = os.path.realpath(path), os.path.realpath(folder)
    except ValueError:  # a NUL, or half of a surrogate pair
        raise _refusal(name, source, "is no name of a file; correct it") from None
    if os.path.isabs(name) or not _lies_in(lexical, lexical_folder):
        raise _refusal(name, source, f"is no path inside of '{folder}'; correct it")
    if not links_may_leave and not _lies_in(real, real_folder):
        raise _refusal(name, source, f"leads out of '{folder}' by a link; copy what it leads to")
    return path


def user_path(path: str | os.PathLike[str]) -> Path:
    """The path that a person gave, with ~ and ~user expanded. Raises InputError for one that cannot be."""
    try:
        text = os.fspath(path)
    except TypeError:
        raise InputError(f"a path is text or a Path, not a {type(path).__name__}") from None
    if "\0" in text:
        raise InputError(f"{text!r} is no path: it holds a NUL character")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        user = text.split(os.sep)[0].removeprefix("~")
        raise InputError(
            f"'{text}': there is no user '{user}'; give the whole path to a name that begins with ~"
        ) from None


def path_as_text(path: str | Path) -> str:
    """A path as text that JSON holds: itself, or a `file:` URI if its bytes are no UTF-8."""
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        return Path(os.path.abspath(text)).as_uri()
    return text


def path_from_text(text: str) -> Path:
    """The path that `path_as_text` wrote."""
    if not text.startswith("file:///"):
        return Path(text)
    return Path(os.fsdecode(unquote_to_bytes(text.removeprefix("file://"))))


def file_names(names: Sequence[str], suffixes: Sequence[str | None] | None = None) -> list[str]:
    """Relative names with forward slashes for files to write, one for each view.

    They lie inside the folder that they are written to, can be written on any system, hold no white space
    (COLMAP's text files end a name there), and differ even where a file system ignores case or Unicode's
    composition; none is a folder of another. A name that is all this already stays what it is.

    Args:
        names: Names of the views, any text.
        suffixes: What each file is to end with in place of the name's own suffix; None keeps that.

    Returns:
        The file names, in order; of two that would be the same, the view whose own name it is gets it and the
        other a number.
    """
    endings = [None] * len(names) if suffixes is None else suffixes
    wanted = [_clean(name, ending) for name, ending in zip(names, endings, strict=True)]
    order = sorted(range(len(names)), key=lambda index: wanted[index] != names[index])
    files: set[str] = set()
    folders: set[str] = set()
    for index in order:
        if not files.isdisjoint(_folders_above(_compared(wanted[index]))):
            wanted[index] = _fitted(wanted[index].replace("/", "_"))  # one of its folders is a file
        for name in _numbered(wanted[index]):
            key = _compared(name)
            if key not in files and key not in folders:
                break
        files.add(key)
        folders.update(_folders_above(key))
        wanted[index] = name
    return wanted


def _clean(name: str, suffix: str | None) -> str:
    *folders, last = (_clean_part(part) for part in name.split("/") if part) if name.strip("/") else ("_",)
    if suffix is not None and not last.lower()[1:].endswith(suffix.lower()):
        last = f"{last.rpartition('.')[0] or last}{suffix}"
    name = "/".join([*(_fitted(part) for part in folders), _fitted(last)])
    if len(name.encode()) <= _LONGEST_NAME:
        return name
    return _fitted(last, f"-{_digest(name)}")


def _clean_part(part: str) -> str:
    part = "_".join(_REPLACED.sub("_", part).split()).rstrip(".") or "_"
    return f"_{part}" if _DEVICES.fullmatch(part.split(".")[0]) else part


def _fitted(part: str, mark: str = "") -> str:
    """`part` with `mark` before its suffix, cut where a file system would not take its length."""
    stem, dot, suffix = part.rpartition(".")
    if not stem or len(suffix.encode()) > 16:
        stem, suffix = part, ""
    end = f"{mark}{dot if suffix else ''}{suffix}"
    if len(stem.encode()) + len(end.encode()) > _LONGEST_PART:
        end = f"-{_digest(part)}{end}"
        stem = stem.encode()[: _LONGEST_PART - len(end.encode())].decode(errors="ignore")
    return stem + end


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def _numbered(name: str) -> Iterator[str]:
    """The name itself, then with _2, _3, ... before its suffix."""
    yield name
    folder, slash, last = name.rpartition("/")
    for number in itertools.count(2):
        yield f"{folder}{slash}{_fitted(last, f'_{number}')}"


def _compared(name: str) -> str:
    """Equal for names that some file system takes for one."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    return "".join(letter for letter in folded if unicodedata.category(letter) != "Cf")


def _folders_above(key: str) -> list[str]:
    return [key[: slash.start()] for slash in re.finditer("/", key)]


def _lies_in(path: str, folder: str) -> bool:
    return path.startswith(folder.rstrip(os.sep) + os.sep)


def _refusal(name: str, source: str | Path, what: str) -> InputError:
    return InputError(f"{source}: the name {name!r} {what}")
