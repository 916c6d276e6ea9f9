"""The source images of a reconstruction again, upright and at full resolution, for exports.

An image that needs no turning and whose format other programs read is copied byte by byte; everything
else (EXIF rotation, HEIC, frames of a video) is written anew, so that the pixels of every written file
are those the cameras describe.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ...errors import DamagedInputError, InputError, MissingExtraError
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
_REMEDY = "put it back, or export without images (images none)"


def source_image_names(views: Sequence[ViewRecord]) -> tuple[str, ...]:
    """File name for each view's image: its own, without white space and in a format others read.

    COLMAP's text files cannot hold names with spaces, and few programs read HEIC; unique in the end.
    """
    wanted = []
    for view in views:
        name = "_".join(view.name.split())
        stem, dot, suffix = name.rpartition(".")
        known = f".{suffix.lower()}" in _WRITTEN and stem and dot
        if not known:
            lossless = f".{suffix.lower()}" in _LOSSLESS_SUFFIXES or not view.source
            name = f"{stem if dot and stem and '/' not in suffix else name}{'.png' if lossless else '.jpg'}"
        wanted.append(name)
    taken = {name for name, view in zip(wanted, views, strict=True) if name == view.name}
    names = []
    for name, view in zip(wanted, views, strict=True):
        stem, _, suffix = name.rpartition(".")
        number = 1
        while name != view.name and name in taken:
            number += 1
            name = f"{stem}_{number}.{suffix}"
        taken.add(name)
        names.append(name)
    return tuple(names)


def source_images_size(views: Sequence[ViewRecord]) -> int:
    """About how many bytes `write_source_images` writes."""
    total = 0
    for view in views:
        transform = view.transform
        rewritten = view.video_frame is not None or transform.orientation != 1 or not view.source
        source = Path(view.source)
        size = source.stat().st_size if view.video_frame is None and source.is_file() else 0
        total += max(size, 2 * transform.upright_width * transform.upright_height if rewritten else 0)
    return total


def write_source_images(
    views: Sequence[ViewRecord],
    names: Sequence[str],
    folder: Path,
    progress: Callable[[int, int], None] | None = None,
    network_images: Sequence[UInt8[np.ndarray, "height width 3"]] = (),
) -> None:
    """Write the upright source image of every view to `folder`, called `names`.

    A view that was given in memory and has since been stored is written from its network image, enlarged to
    the size of the source; there is one of `network_images` a view. Raises InputError if a source is gone, is
    no longer the image that was reconstructed, or was given in memory and the network saw only a part of it.
    """
    report = progress or (lambda done, total: None)
    done = 0
    targets = [folder / name for name in names]
    for target in targets:
        target.parent.mkdir(parents=True, exist_ok=True)
    for index, (view, target) in enumerate(zip(views, targets, strict=True)):
        if view.video_frame is None:
            if view.source:
                _write_photo(view, target)
            elif view.image is not None:
                _write(decode_input(view.image, view.name).image, view, target)
            else:
                _write(_enlarged(view, network_images[index]), view, target)
            done += 1
            report(done, len(views))
    videos = dict.fromkeys(view.source for view in views if view.video_frame is not None)
    for source in videos:
        places = {
            view.video_frame: (view, target)
            for view, target in zip(views, targets, strict=True)
            if view.source == source and view.video_frame is not None
        }
        for index, image in _video_frames(source, set(places)):
            _write(image, *places[index])
            done += 1
            report(done, len(views))


def _write_photo(view: ViewRecord, target: Path) -> None:
    source = Path(view.source)
    if not source.is_file():
        raise InputError(f"the image of view {view.name!r} is no longer at {source}; {_REMEDY}")
    try:
        with open_image(source) as image:
            copied = view.transform.orientation == 1 and image.format in _COPIED_FORMATS
            if copied and source.suffix.lower() in _WRITTEN:
                _check_size(view, image.size)
                shutil.copyfile(source, target)
                return
            decoded = decode_image(image)
    except HeifSupportError as error:
        raise MissingExtraError(f"reading the HEIC image {source}", "heif") from error
    except ImageReadError as error:
        raise DamagedInputError(f"{source}: {error}; {_REMEDY}") from error
    _write(decoded.image, view, target)


def _enlarged(view: ViewRecord, network_image: UInt8[np.ndarray, "height width 3"]) -> Image.Image:
    """The part of a network image that shows the source, at the size of the source."""
    transform = view.transform
    if transform.cropped:
        raise InputError(
            f"view {view.name!r} was given in memory and the result holds only a part of it; export in the "
            "same program, reconstruct with the size policy fit, or export without images (images none)"
        )
    size = (transform.upright_width, transform.upright_height)
    left, top = transform.offset_x, transform.offset_y
    box = (left, top, left + size[0] * transform.scale_x, top + size[1] * transform.scale_y)
    height, width = network_image.shape[:2]
    box = (max(box[0], 0.0), max(box[1], 0.0), min(box[2], width), min(box[3], height))
    return Image.fromarray(network_image).resize(size, Image.Resampling.LANCZOS, box)


def _write(image: Image.Image, view: ViewRecord, target: Path) -> None:
    _check_size(view, image.size)
    profile = {"icc_profile": image.info["icc_profile"]} if image.info.get("icc_profile") else {}
    # Written anew without EXIF: its orientation no longer holds.
    image.save(target, **_WRITTEN[target.suffix.lower()], **profile)


def _check_size(view: ViewRecord, size: tuple[int, int]) -> None:
    expected = (view.transform.upright_width, view.transform.upright_height)
    if size != expected:
        raise InputError(
            f"{view.source}: is {size[0]}x{size[1]} pixels, but {expected[0]}x{expected[1]} when view "
            f"{view.name!r} was reconstructed; {_REMEDY}"
        )


def _video_frames(source: str, wanted: set[int]) -> Iterator[tuple[int, Image.Image]]:
    """(index, upright image) of the wanted frames, in order."""
    path = Path(source)
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
