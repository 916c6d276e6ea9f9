"""From what the user typed to an ordered list of files: folder, pattern, list, picture or video."""

from __future__ import annotations

import glob
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError, UsageError
from ...files.naming import (
    IMAGE_SUFFIXES,
    LIST_SUFFIXES,
    VIDEO_SUFFIXES,
    counted,
    enumerated,
    is_clutter,
    natural_key,
    numbers_change_order,
    suffix_of,
    suggestion,
    view_names,
)
from .file_type import is_image, is_text, is_video, read_head
from .folder import list_folder
from .options import InputFile, InputOptions, InputSet

Spec = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def find_inputs(spec: Spec, options: InputOptions | None = None) -> InputSet:
    """The pictures, or the video, that `spec` stands for; nothing is decoded.

    `spec` is a folder (searched recursively), a glob pattern, a text file that lists one path per line
    (relative to its own folder; blank lines and lines starting with # are skipped), one picture, one
    video, or a sequence of paths. Folders and patterns are sorted by natural order, lists keep theirs.
    Raises `InputError` if there is nothing to use, `UsageError` for options that do not fit the input.
    """
    options = InputOptions() if options is None else options
    if isinstance(spec, (str, os.PathLike)):
        return _find_one(spec, options)
    if not isinstance(spec, Sequence) or not all(isinstance(item, (str, os.PathLike)) for item in spec):
        raise UsageError("the input must be a path, a pattern or a sequence of paths")
    if len(spec) == 1:
        return _find_one(spec[0], options)
    if not spec:
        raise InputError("the list of pictures is empty; give at least one path")
    paths = [_existing_file(Path(item).expanduser(), "") for item in spec]
    return _photos("the given paths", paths, None, options)


def _find_one(spec: str | os.PathLike[str], options: InputOptions) -> InputSet:
    label = os.fspath(spec)
    if not label.strip():
        raise InputError("the input is an empty name; give a folder of photos, a video, a pattern or a list")
    path = Path(label).expanduser()
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise InputError(f"'{label}' cannot be opened: {error.strerror}") from error
    if is_folder:
        return _from_folder(label, path, options)
    if exists:
        return _from_file(label, _existing_file(path, ""), options)
    if glob.has_magic(label):
        return _from_pattern(label, str(path), options)
    raise InputError(f"'{label}' does not exist{suggestion(path)}")


def _from_folder(label: str, root: Path, options: InputOptions) -> InputSet:
    listing = list_folder(root)
    if not listing.pictures:
        raise InputError(_nothing_in_folder(label, root, listing.videos, listing.raws))
    warnings = listing.warnings(label)
    paths = [root / name for name in listing.pictures]
    return _photos(label, paths, root, options, [*warnings, *_about_order(listing.pictures)])


def _about_order(names: Sequence[str]) -> list[str]:
    example = numbers_change_order(names)
    if example is None:
        return []
    return [f"pictures are ordered by the numbers in their names ({example}), not as text"]


def _nothing_in_folder(label: str, root: Path, videos: list[str], raws: list[str]) -> str:
    if videos:
        return (
            f"the folder '{label}' holds no pictures but {counted(len(videos), 'video')}; "
            f"give the video itself: '{root / videos[0]}'"
        )
    if raws:
        return f"the folder '{label}' holds only camera raw files ({enumerated(raws)}); convert them to JPEG"
    return f"the folder '{label}' holds no pictures; expected JPEG, PNG, WebP, TIFF, HEIC or the like"


def _from_pattern(label: str, pattern: str, options: InputOptions) -> InputSet:
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    files = [match for match in matches if match.is_file() and not is_clutter(match.name)]
    if not files:
        hint = (
            "only folders match it; add /* to it" if matches else "check the spelling, and quote the pattern"
        )
        raise InputError(f"no file matches the pattern '{label}'; {hint}")
    pictures = [file for file in files if suffix_of(file) in IMAGE_SUFFIXES]
    videos = [file for file in files if suffix_of(file) in VIDEO_SUFFIXES]
    if not pictures and len(videos) == 1:
        return _video(label, videos[0], options)
    if not pictures:
        what = f"{counted(len(videos), 'video')}; give one video at a time" if videos else "but no pictures"
        raise InputError(f"the pattern '{label}' matches {counted(len(files), 'file')}, {what}")
    warnings = []
    if videos:
        names = enumerated(video.name for video in videos)
        warnings.append(
            f"the pattern '{label}' also matches {counted(len(videos), 'video')} ({names}), not used"
        )
    root = _fixed_part(pattern)
    pictures.sort(key=lambda path: natural_key(path.as_posix()))
    warnings += _about_order([path.as_posix() for path in pictures])
    return _photos(label, pictures, root, options, warnings)


def _fixed_part(pattern: str) -> Path:
    """The folder of a pattern before its first wildcard."""
    fixed: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _from_file(label: str, path: Path, options: InputOptions) -> InputSet:
    suffix = suffix_of(path)
    if suffix in LIST_SUFFIXES:
        return _from_list(label, path, options)
    if suffix in IMAGE_SUFFIXES:
        return _photos(label, [path], path.parent, options)
    head = _head(label, path)
    if suffix in VIDEO_SUFFIXES or is_video(head):
        return _video(label, path, options)
    if is_image(head):
        return _photos(label, [path], path.parent, options)
    if is_text(head):
        return _from_list(label, path, options)
    raise InputError(f"'{label}' is neither a picture nor a video nor a text list of pictures")


def _head(label: str, path: Path) -> bytes:
    try:
        return read_head(path)
    except OSError as error:
        raise InputError(f"'{label}' cannot be opened: {error.strerror}") from error


def _from_list(label: str, path: Path, options: InputOptions) -> InputSet:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"'{label}' cannot be read as a text list of pictures: {error}") from error
    paths = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            listed = path.parent / Path(entry).expanduser()
            if not listed.exists():
                shown = textwrap.shorten(str(listed), 120, placeholder="...")
                raise InputError(
                    f"line {number} of the list '{label}': '{shown}' does not exist{suggestion(listed)}"
                )
            paths.append(_existing_file(listed, f"line {number} of the list '{label}': "))
    if not paths:
        raise InputError(f"the list '{label}' names no pictures; write one path per line")
    if len(paths) == 1 and suffix_of(paths[0]) in VIDEO_SUFFIXES:
        return _video(label, paths[0], options)
    return _photos(label, paths, path.parent, options)


def _existing_file(path: Path, where: str) -> Path:
    if path.is_dir():
        raise InputError(f"{where}'{path}' is a folder; give the pictures themselves or the folder alone")
    if not path.exists():
        raise InputError(f"{where}'{path}' does not exist{suggestion(path)}")
    if not path.is_file():
        raise InputError(f"{where}'{path}' is not a regular file")
    return path


def _video(label: str, path: Path, options: InputOptions) -> InputSet:
    return InputSet("video", label, (InputFile(path, path.name),), options)


def _photos(
    label: str, paths: Sequence[Path], root: Path | None, options: InputOptions, warnings: Sequence[str] = ()
) -> InputSet:
    if options.video_only:
        raise UsageError(
            f"{' and '.join(options.video_only)} can only be used with a video; '{label}' is not one"
        )
    videos = [path.name for path in paths if suffix_of(path) in VIDEO_SUFFIXES]
    if videos:
        raise InputError(f"{label!r} names a video ({videos[0]}) among pictures; give a video alone")
    told = list(warnings)
    unique = list({os.path.abspath(path): path for path in paths}.values())
    if len(unique) < len(paths):
        told.append(f"{counted(len(paths) - len(unique), 'repeated path')} in {label} counted once")
    files = tuple(InputFile(path, name) for path, name in zip(unique, view_names(unique, root)))
    chosen = _thinned(files, options)
    if len(chosen) < len(files):
        told.append(f"{len(chosen)} of {len(files)} pictures are used, evenly chosen")
    return InputSet("photos", label, chosen, options, tuple(told))


def _thinned(files: tuple[InputFile, ...], options: InputOptions) -> tuple[InputFile, ...]:
    kept = files[:: options.stride or 1]
    limit = options.max_frames
    if limit is None or len(kept) <= limit:
        return kept
    return tuple(kept[index * len(kept) // limit] for index in range(limit))
