"""File names: image and video suffixes, natural sort order, names of views, suggestions for misspelt ones."""

from __future__ import annotations

import difflib
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath


def _suffixes(names: str) -> frozenset[str]:
    return frozenset("." + name for name in names.split())


IMAGE_SUFFIXES = _suffixes(
    "jpg jpeg jpe jfif jp2 png webp tif tiff bmp gif mpo ppm pgm pnm heic heif hif avif"
)
VIDEO_SUFFIXES = _suffixes("mp4 mov m4v avi mkv webm mpg mpeg mts m2ts 3gp wmv flv ogv insv")
# Camera raw files hold no finished image; they are reported rather than ignored.
RAW_SUFFIXES = _suffixes("dng cr2 cr3 nef arw orf rw2 raf srw pef")
LIST_SUFFIXES = _suffixes("txt lst list")

_DIGITS = re.compile(r"([0-9]+)")
_NO_TEXT = re.compile("[\ud800-\udfff]")
# Controls, line ends, marks of direction, halves of surrogate pairs.
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def suffix_of(path: PurePath | str) -> str:
    return PurePath(path).suffix.lower()


def natural_key(name: str) -> tuple[tuple[tuple[str | int, ...], ...], str]:
    """Sort key by which frame_2 comes before frame_10, folder by folder; the name itself breaks ties."""
    parts = tuple(
        tuple(int(text) if index % 2 else text.casefold() for index, text in enumerate(_DIGITS.split(part)))
        for part in name.split("/")
    )
    return parts, name


def numbers_change_order(names: Sequence[str]) -> str | None:
    """The first two of these naturally sorted names that plain text order would exchange, or None."""
    for first, second in itertools.pairwise(names):
        if first.casefold().split("/") > second.casefold().split("/"):
            return f"{first} before {second}"
    return None


def is_clutter(name: str) -> bool:
    """True for files and folders that systems leave beside images: hidden ones, thumbnail caches."""
    return name.startswith(".") or name.lower() in {"thumbs.db", "desktop.ini", "__macosx", "@eadir"}


def view_names(paths: Sequence[Path], root: Path | None) -> list[str]:
    """Unique names relative to `root`, or to the folder all paths share if they do not all lie in `root`."""
    absolute = [os.path.abspath(path) for path in paths]
    base = "" if root is None else os.path.abspath(root)
    if root is None or any(not path.startswith(base.rstrip(os.sep) + os.sep) for path in absolute):
        try:
            base = os.path.commonpath([os.path.dirname(path) for path in absolute])
        except ValueError:  # several drives
            base = os.sep
    names = [replace_undecodable(PurePath(os.path.relpath(path, base)).as_posix()) for path in absolute]
    seen: dict[str, int] = {}
    unique = []
    for name in names:  # two names can only be equal when bytes that are no text were replaced
        seen[name] = seen.get(name, 0) + 1
        stem, dot, suffix = name.rpartition(".")
        unique.append(name if seen[name] == 1 else f"{stem}~{seen[name]}{dot}{suffix}")
    return unique


def replace_undecodable(name: str) -> str:
    """`name` with U+FFFD for every byte that is no UTF-8, as in names of views."""
    return _NO_TEXT.sub("\ufffd", name)


def printable(text: str) -> str:
    """`text` on one line that can be printed and stored, whatever names of files are in it.

    Control characters, those that turn the direction of text, and bytes that are no UTF-8 are escaped as in
    Python: \\n, \\x1b, \\u202e, \\xe9.
    """
    return _UNPRINTABLE.sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # how Python shows a byte that is no UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return found[0].encode("unicode_escape").decode("ascii")


def suggestion(missing: Path) -> str:
    """A half-sentence that helps with a path that does not exist: close names, or the missing folder."""
    parent, prefix = missing.parent, ""
    while not parent.is_dir() and parent != parent.parent:
        missing, parent = parent, parent.parent
        prefix = f"; there is no folder '{missing.name}' in '{parent}'"
    try:
        names = [entry for entry in os.listdir(parent) if not is_clutter(entry)]
    except OSError:
        names = []
    lowered = {name.lower(): name for name in names}
    close = difflib.get_close_matches(missing.name.lower(), list(lowered), n=3, cutoff=0.6)
    if not close:
        return prefix
    return f"{prefix}; did you mean {' or '.join(repr(lowered[name]) for name in close)}?"


def enumerated(names: Iterable[str], limit: int = 3) -> str:
    """'a.jpg, b.jpg, c.jpg and 4 more': a list short enough for a sentence."""
    all_names = list(names)
    text = ", ".join(all_names[:limit])
    return text if len(all_names) <= limit else f"{text} and {len(all_names) - limit} more"


def counted(number: int, noun: str) -> str:
    """'1 image', '3 images'."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
