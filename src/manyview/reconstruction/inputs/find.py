"""From what the user typed to an ordered list of files: folder, pattern, list, image or video."""

from __future__ import annotations

import glob
import os
import re
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
from ...files.paths import user_path
from ...files.schema import read_regular
from ...files.spread import evenly_spread
from .file_type import is_image, is_text, is_video, read_head
from .folder import list_folder
from .in_memory import ImageInput, split_batches
from .options import InputFile, InputOptions, InputSet

Inputs = ImageInput | Sequence[ImageInput]


def find_inputs(spec: Inputs | InputSet, options: InputOptions | None = None) -> InputSet:
    """The images, or the video, that `spec` stands for; nothing is decoded.

    Args:
        spec: a folder (searched recursively), a glob pattern, a text file that lists one path per line
            (relative to its own folder; blank lines and lines starting with # are skipped), one image, one
            video, or a sequence of paths, Pillow images, arrays and tensors (see `in_memory.split_batches`).
            Folders and patterns are in natural sort order, sequences keep theirs. Images in memory are named
            by their place in it: view-0001, view-0002, ... What was found already stays what it is.
        options: which of them to use.

    Raises:
        InputError: if there is nothing to use.
        UsageError: for options that do not suit the input, or an object that is no image.
    """
    if isinstance(spec, InputSet):
        return spec
    options = InputOptions() if options is None else options
    if isinstance(spec, str | os.PathLike):
        images: list[ImageInput] = [spec]
    else:
        images = list(split_batches(spec if isinstance(spec, Sequence) else [spec]))
    if not images:
        raise InputError("the list of images is empty; give at least one")
    try:
        if len(images) == 1 and isinstance(images[0], str | os.PathLike):
            return _find_one(images[0], options)
        return _given(images, options)
    except (OSError, ValueError) as error:  # too long, no permission, no characters
        given = next((os.fspath(i) for i in images if isinstance(i, str | os.PathLike)), "the input")
        name = str(getattr(error, "filename", None) or given)
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"'{_shortened(name)}' cannot be opened: {reason}") from error


def input_set(
    label: str, files: Sequence[InputFile], options: InputOptions, warnings: Sequence[str] = ()
) -> InputSet:
    """What `find_inputs` gives, of files that are known by name: photos in this order, or one video.

    Raises as `find_inputs`.
    """
    files = tuple(files)
    try:
        if len(files) == 1 and is_video(read_head(files[0].path)):
            return InputSet("video", label, files, options, tuple(warnings))
    except OSError as error:
        raise InputError(f"'{files[0].path}' cannot be opened: {error.strerror}") from error
    _refuse_videos(label, [file.path for file in files], options)
    return _thinned(label, files, options, warnings)


def _given(images: Sequence[ImageInput], options: InputOptions) -> InputSet:
    paths = [_existing_file(user_path(i), "") for i in images if isinstance(i, str | os.PathLike)]
    if len(paths) == len(images):
        return _photos("the given paths", paths, None, options)
    _refuse_videos("the given images", paths, options)
    names = view_names(paths, None)
    named = zip(paths, names, strict=True)
    files = []
    for number, image in enumerate(images, start=1):
        if isinstance(image, str | os.PathLike):
            files.append(InputFile(*next(named)))
        else:
            name = f"view-{number:04d}"
            while name in names:  # a file may be called so
                name += "~"
            files.append(InputFile(Path(name), name, image))
    return _thinned("the given images", tuple(files), options, [])


def _find_one(spec: str | os.PathLike[str], options: InputOptions) -> InputSet:
    label = os.fspath(spec)
    if not label.strip():
        raise InputError("the input is an empty name; give a folder of photos, a video, a pattern or a list")
    path = user_path(label)
    if path.is_dir():
        return _from_folder(label, path, options)
    if path.exists():
        return _from_file(label, _existing_file(path, ""), options)
    if glob.has_magic(label):
        return _from_pattern(label, str(path), options)
    raise InputError(f"'{label}' does not exist{suggestion(path)}")


def _from_folder(label: str, root: Path, options: InputOptions) -> InputSet:
    listing = list_folder(root)
    if not listing.images:
        raise InputError(_nothing_in_folder(label, root, listing.videos, listing.raws))
    warnings = listing.warnings(label)
    paths = [root / name for name in listing.images]
    return _photos(label, paths, root, options, [*warnings, *_about_order(listing.images)])


def _about_order(names: Sequence[str]) -> list[str]:
    example = numbers_change_order(names)
    return [f"images are ordered by the numbers in their names ({example}), not as text"] if example else []


def _nothing_in_folder(label: str, root: Path, videos: list[str], raws: list[str]) -> str:
    if videos:
        return (
            f"the folder '{label}' holds no images but {counted(len(videos), 'video')}; "
            f"give the video itself: '{root / videos[0]}'"
        )
    if raws:
        return f"the folder '{label}' holds only camera raw files ({enumerated(raws)}); convert them to JPEG"
    return f"the folder '{label}' holds no images; expected JPEG, PNG, WebP, TIFF, HEIC or the like"


def _from_pattern(label: str, pattern: str, options: InputOptions) -> InputSet:
    matches = [Path(match) for match in glob.glob(pattern, recursive=True)]
    files = [match for match in matches if match.is_file() and not is_clutter(match.name)]
    if not files:
        hint = (
            "only folders match it; add /* to it" if matches else "check the spelling, and quote the pattern"
        )
        raise InputError(f"no file matches the pattern '{label}'; {hint}")
    images = [file for file in files if suffix_of(file) in IMAGE_SUFFIXES]
    videos = [file for file in files if suffix_of(file) in VIDEO_SUFFIXES]
    if not images and len(videos) == 1:
        return _video(label, videos[0], options)
    if not images:
        what = f"{counted(len(videos), 'video')}; give one video at a time" if videos else "but no images"
        raise InputError(f"the pattern '{label}' matches {counted(len(files), 'file')}, {what}")
    warnings = []
    if videos:
        names = enumerated(video.name for video in videos)
        warnings.append(
            f"the pattern '{label}' also matches {counted(len(videos), 'video')} ({names}), not used"
        )
    root = _fixed_part(pattern)
    images.sort(key=lambda path: natural_key(path.as_posix()))
    warnings += _about_order([path.as_posix() for path in images])
    return _photos(label, images, root, options, warnings)


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
    head = read_head(path)
    if suffix in VIDEO_SUFFIXES or is_video(head):
        return _video(label, path, options)
    if is_image(head):
        return _photos(label, [path], path.parent, options)
    if is_text(head):
        return _from_list(label, path, options)
    raise InputError(f"'{label}' is neither an image nor a video nor a text list of images")


def _from_list(label: str, path: Path, options: InputOptions) -> InputSet:
    # Names need not be UTF-8, and may hold the line ends of Unicode.
    lines = re.split("\r\n?|\n", read_regular(path).decode("utf-8-sig", "surrogateescape"))
    if any("\0" in line for line in lines):
        raise InputError(f"'{label}' cannot be read as a text list of images: it is not UTF-8 text")
    paths = []
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if entry and not entry.startswith("#"):
            listed = path.parent / user_path(entry)
            if not listed.exists():
                raise InputError(
                    f"line {number} of the list '{label}': '{_shortened(str(listed))}' does not exist"
                    f"{suggestion(listed)}"
                )
            paths.append(_existing_file(listed, f"line {number} of the list '{label}': "))
    if not paths:
        raise InputError(f"the list '{label}' names no images; write one path per line")
    if len(paths) == 1 and suffix_of(paths[0]) in VIDEO_SUFFIXES:
        return _video(label, paths[0], options)
    return _photos(label, paths, path.parent, options)


def _shortened(name: str) -> str:
    return name if len(name) <= 120 else f"{name[:117]}..."


def _existing_file(path: Path, where: str) -> Path:
    if path.is_dir():
        raise InputError(f"{where}'{path}' is a folder; give the images themselves or the folder alone")
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
    _refuse_videos(label, paths, options)
    unique = list({os.path.abspath(path): path for path in paths}.values())
    notes = list(warnings)
    if len(unique) < len(paths):
        notes.append(f"{counted(len(paths) - len(unique), 'repeated path')} in {label} counted once")
    files = tuple(InputFile(path, name) for path, name in zip(unique, view_names(unique, root)))
    return _thinned(label, files, options, notes)


def _refuse_videos(label: str, paths: Sequence[Path], options: InputOptions) -> None:
    if options.video_only:
        raise UsageError(
            f"{' and '.join(options.video_only)} can only be used with a video; '{label}' is not one"
        )
    videos = [path.name for path in paths if suffix_of(path) in VIDEO_SUFFIXES]
    if videos:
        raise InputError(f"{label!r} names a video ({videos[0]}) among images; give a video alone")


def _thinned(
    label: str, files: tuple[InputFile, ...], options: InputOptions, warnings: Sequence[str]
) -> InputSet:
    """Every `stride`-th file, then at most `max_frames` of them, evenly spread from the first to the last."""
    chosen = files[:: options.stride or 1]
    limit = options.max_frames
    if limit is not None and len(chosen) > limit:
        chosen = tuple(chosen[index] for index in evenly_spread(len(chosen), limit))
    if len(chosen) < len(files):
        warnings = (*warnings, f"{len(chosen)} of {len(files)} images are used, evenly chosen")
    return InputSet("photos", label, chosen, options, tuple(warnings))
