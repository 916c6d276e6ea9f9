"""The source images of a reconstruction again, upright and at full resolution, for exports.

An image that needs no turning and whose format other programs read is copied byte by byte; everything
else (EXIF rotation, HEIC, frames of a video) is written anew, so that the pixels of every written file
are those the cameras describe.
"""

from __future__ import annotations

import dataclasses
import itertools
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ...errors import DamagedInputError, InputError, MissingExtraError, UsageError
from ...files.naming import suffix_of
from ...files.paths import file_names
from .decode import HeifSupportError, ImageReadError, decode_image, open_image
from .in_memory import decode_input
from .options import InputOptions
from .video import VideoReader
from .views import ViewRecord

# Suffix -> how Pillow writes it. What is not here becomes one of these.
_WRITTEN: dict[str, dict[str, Any]] = {
    ".jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".jpeg": {"format": "JPEG", "quality": 95, "subsampling": 0},
    ".png": {"format": "PNG", "compress_level": 3},
    ".tif": {"format": "TIFF"},
    ".tiff": {"format": "TIFF"},
    ".bmp": {"format": "BMP"},
    ".webp": {"format": "WEBP", "quality": 95},
}
_COPIED_FORMATS = frozenset({"JPEG", "PNG", "TIFF", "BMP", "WEBP"})
_LOSSLESS_SUFFIXES = frozenset({".gif", ".ppm", ".pgm", ".pnm"})
# What a source and its network image look like is compared at this size; rounding and the noise of lossy
# formats average out in it. Grey levels, the mean over all pixels.
_COMPARED_SIZE = (16, 16)
_MOST_DIFFERENT = 20.0
_REMEDY = "put it back, or export with --images none"


def source_image_names(views: Sequence[ViewRecord]) -> tuple[str, ...]:
    """File name for each view's image: its own as `file_names` allows it, in a format others read."""
    return tuple(file_names([view.name for view in views], [_new_suffix(view) for view in views]))


def _new_suffix(view: ViewRecord) -> str | None:
    suffix = suffix_of(view.name.rstrip())
    if suffix in _WRITTEN:
        return None
    return ".png" if suffix in _LOSSLESS_SUFFIXES or not view.source else ".jpg"


def source_images_size(views: Sequence[ViewRecord], downscale: Sequence[int] = ()) -> int:
    """About how many bytes `write_source_images` writes."""
    total = 0
    reduced = sum(1 / factor**2 for factor in downscale)
    for view in views:
        transform = view.transform
        rewritten = view.video_frame is not None or transform.orientation != 1 or not view.source
        source = view.source_path
        size = source.stat().st_size if view.video_frame is None and source.is_file() else 0
        encoded = 2 * transform.upright_width * transform.upright_height
        total += max(size, encoded if rewritten else 0) + int(reduced * max(size, encoded))
    return total


def write_source_images(
    views: Sequence[ViewRecord],
    names: Sequence[str],
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    network_images: Sequence[UInt8[np.ndarray, "height width 3"]] = (),
    downscale: Sequence[int] = (),
) -> None:
    """Write the upright source image of every view to `folder`, called `names`.

    For each factor of `downscale` the images reduced by it (see `reduced`) are written beside `folder`, to
    `images_2` for `images`, under the same names.

    A view that was given in memory and has since been stored is written from its network image, enlarged to
    the size of the source; there is one of `network_images` a view. With them, a source is written only if
    it shows what they show: somebody else may have written the path in the result. Raises InputError if a
    source is gone, is no longer the image that was reconstructed, or was given in memory and the network
    saw only a part of it.
    """
    report = progress or (lambda done, total: None)
    done = 0
    jobs = []
    for name, view, network_image in itertools.zip_longest(names, views, network_images):
        smaller = {factor: folder.with_name(f"{folder.name}_{factor}") / name for factor in downscale}
        for target in (folder / name, *smaller.values()):
            target.parent.mkdir(parents=True, exist_ok=True)
        jobs.append(_Job(view, folder / name, smaller, network_image))
    for job in jobs:
        if job.view.video_frame is None:
            if job.view.source:
                _write_photo(job)
            elif job.view.image is not None:
                _write(decode_input(job.view.image, job.view.name).image, job)
            else:
                _write(_enlarged(job), job)
            done += 1
            report(done, len(views))
    videos: dict[Path, dict[int, _Job]] = {}
    for job in jobs:
        if job.view.video_frame is not None:
            videos.setdefault(job.view.source_path, {})[job.view.video_frame] = job
    for source, wanted in videos.items():
        for index, image in _video_frames(source, set(wanted)):
            job = wanted[index]
            _check_size(job.view, image.size)
            if not _shows(image, job):
                raise _other_content(job.view)
            _write(image, job)
            done += 1
            report(done, len(views))


@dataclasses.dataclass(frozen=True, eq=False)
class _Job:
    """One image to write; `network_image` is what was reconstructed from it, if that is known.

    `smaller`: where it goes reduced, by factor.
    """

    view: ViewRecord
    target: Path
    smaller: Mapping[int, Path]
    network_image: UInt8[np.ndarray, "height width 3"] | None


def _write_photo(job: _Job) -> None:
    view, source = job.view, job.view.source_path
    if not source.is_file():
        raise InputError(f"the image of view {view.name!r} is no longer at {source}; {_REMEDY}")
    try:
        with open_image(source) as image:
            size = image.size
            upright = view.transform.orientation == 1
            copied = upright and image.format in _COPIED_FORMATS and source.suffix.lower() in _WRITTEN
            if copied and not job.smaller:
                image.draft(None, view.transform.network_size[::-1])  # a JPEG need not be decoded in full
            decoded = decode_image(image)
            _check_size(view, size if copied else decoded.image.size)  # a draft is smaller
            same = _shows(decoded.image, job)
            if decoded.transparent and not same:  # loaders differ in what transparent pixels show
                same = _shows(decode_image(image, True).image, job)
            if not same:
                raise _other_content(view)
    except HeifSupportError as error:
        raise MissingExtraError(f"reading the HEIC image {source}", "heif") from error
    except ImageReadError as error:
        raise DamagedInputError(f"{source}: {error}; {_REMEDY}") from error
    _write(decoded.image, job, source if copied else None)


def _shows(image: Image.Image, job: _Job) -> bool:
    """Whether an upright image, or a smaller copy of it, is the one that was reconstructed."""
    if job.network_image is None:
        return True
    transform = job.view.transform
    left, top = max(0, transform.content_box[0]), max(0, transform.content_box[1])
    right = min(transform.content_box[2], transform.network_width)
    bottom = min(transform.content_box[3], transform.network_height)
    reduced_x = image.width / transform.upright_width / transform.scale_x
    reduced_y = image.height / transform.upright_height / transform.scale_y
    seen = (
        max(0.0, (left - transform.offset_x) * reduced_x),
        max(0.0, (top - transform.offset_y) * reduced_y),
        min(float(image.width), (right - transform.offset_x) * reduced_x),
        min(float(image.height), (bottom - transform.offset_y) * reduced_y),
    )
    if not (right > left and bottom > top and seen[2] > seen[0] and seen[3] > seen[1]):
        return False
    source = image.convert("RGB").resize(_COMPARED_SIZE, Image.Resampling.BOX, seen)
    network_image = Image.fromarray(np.ascontiguousarray(job.network_image[top:bottom, left:right]))
    found = network_image.resize(_COMPARED_SIZE, Image.Resampling.BOX)
    return float(np.abs(np.asarray(source, float) - np.asarray(found, float)).mean()) <= _MOST_DIFFERENT


def _other_content(view: ViewRecord) -> InputError:
    return InputError(f"{view.source}: no longer shows what view {view.name!r} was made from; {_REMEDY}")


def _enlarged(job: _Job) -> Image.Image:
    """The part of a network image that shows the source, at the size of the source."""
    transform, network_image = job.view.transform, job.network_image
    if network_image is None or transform.cropped:
        raise InputError(
            f"view {job.view.name!r} was given in memory and the result holds only a part of it; export in "
            "the same program, reconstruct with the size policy fit, or export with --images none"
        )
    size = (transform.upright_width, transform.upright_height)
    (left, top), (right, bottom) = transform.image_corners
    height, width = network_image.shape[:2]
    box = (max(left, 0.0), max(top, 0.0), min(right, width), min(bottom, height))
    return Image.fromarray(network_image).resize(size, Image.Resampling.LANCZOS, box)


def _write(image: Image.Image, job: _Job, copied_from: Path | None = None) -> None:
    """Write an upright image, or copy the file that holds it, and write its reductions."""
    profile = {"icc_profile": image.info["icc_profile"]} if image.info.get("icc_profile") else {}
    # Written anew without EXIF: its orientation no longer holds.
    how = {**_WRITTEN[job.target.suffix.lower()], **profile}
    if copied_from is None:
        _check_size(job.view, image.size)
        image.save(job.target, **how)
    else:
        shutil.copyfile(copied_from, job.target)
    for factor, target in job.smaller.items():
        reduced(image, factor).save(target, **how)


def reduced(image: Image.Image, factor: int) -> Image.Image:
    """The image with `factor` x `factor` pixels averaged to one; a rest on the right and below is cut.

    So `intrinsics / factor` are exactly those of the result, and its size is the one that gsplat and
    nerfstudio expect (rounded down). Raises UsageError for a factor above the shorter side.
    """
    width, height = image.width // factor, image.height // factor
    if not (width and height):
        size = f"{image.width}x{image.height}"
        raise UsageError(f"downscale: an image of {size} pixels cannot be reduced by {factor}")
    return image.reduce(factor, (0, 0, width * factor, height * factor))


def _check_size(view: ViewRecord, size: tuple[int, int]) -> None:
    expected = (view.transform.upright_width, view.transform.upright_height)
    if size != expected:
        raise InputError(
            f"{view.source}: is {size[0]}x{size[1]} pixels, but {expected[0]}x{expected[1]} when view "
            f"{view.name!r} was reconstructed; {_REMEDY}"
        )


def _video_frames(path: Path, wanted: set[int]) -> Iterator[tuple[int, Image.Image]]:
    """(index, upright image) of the wanted frames, in order."""
    if not path.is_file():
        raise InputError(f"the video is no longer at {path}; {_REMEDY}")
    left = set(wanted)
    for frame in VideoReader(path, InputOptions(stride=1)).frames():
        if frame.index in left:
            left.remove(frame.index)
            yield frame.index, frame.decoded.image
        if not left:
            return
    if left:
        raise InputError(f"{path}: has no frame {min(left)} any more, so it was changed; {_REMEDY}")
