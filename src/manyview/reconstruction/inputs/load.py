"""From found files to the uint8 batch that the network takes, with a record of every view."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import UInt8

from ...errors import DamagedInputError, InputError, MissingExtraError
from ...files.naming import counted
from ...models.config import SizePolicy
from .decode import HeifSupportError, ImageReadError
from .decode_pool import DECODING_BYTES, load_network_images, with_size_of_first
from .input_warnings import image_warnings
from .network_image import NetworkImage, Sizing, make_network_image
from .options import InputFile, InputSet
from .preprocess import check_sizes, paste_on_canvas, shared_canvas
from .spool import DiskImages, PixelSpool
from .video import VideoReader
from .views import ViewRecord

# Called with (done, total) after each file or frame.
Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class SkippedFile:
    """A file that was to be used and could not be; `reason` can follow its name in a sentence."""

    path: str
    reason: str


def _nothing() -> None:
    """What is in memory stays there."""


@dataclasses.dataclass(frozen=True)
class LoadedViews:
    """The network's input: `images` uint8 RGB, one record per image, and warnings.

    In memory the colours of a pixel lie together, as decoders give them and as results keep them.

    `skipped` lists damaged files in input order; `warnings` are sentences for the user, the ones about
    skipped files included. Where the images are on the disk, `release` frees the memory of those read.
    """

    images: UInt8[torch.Tensor, "views 3 height width"]
    records: tuple[ViewRecord, ...]
    skipped: tuple[SkippedFile, ...] = ()
    warnings: tuple[str, ...] = ()
    release: Callable[[], None] = _nothing


def read_views(
    input_set: InputSet,
    policy: SizePolicy = "fit",
    target_size: int = 518,
    patch_size: int = 14,
    *,
    strict: bool = False,
    progress: Progress | None = None,
    threads: int | None = None,
    pixel_limit: int | None = None,
    on_disk: bool = False,
    budget_bytes: int = DECODING_BYTES,
) -> LoadedViews:
    """Decode and resize every view of `input_set`; the same files give the same result.

    `target_size` and `patch_size` are in network pixels; for the policy "area" a `pixel_limit` takes the
    place of the target size. Damaged files are skipped and named; with
    `strict` the first one raises `DamagedInputError`. Raises `InputError` if no usable view is left.
    Images at full resolution take up to `budget_bytes` (see `load_network_images`); with `on_disk` the
    network images are in an unnamed temporary file, and memory does not grow with their number. Raises
    MemoryLimitError for an image that does not fit in memory.
    """
    check_sizes(policy, target_size, patch_size)
    sizing = Sizing(policy, target_size, patch_size, pixel_limit)
    report = progress or (lambda done, total: None)
    with PixelSpool() if on_disk else contextlib.nullcontext() as spool:
        if input_set.kind == "video":
            return _read_video(input_set, sizing, strict, report, spool)
        return _read_photos(input_set, sizing, strict, report, threads, spool, budget_bytes)


def _read_photos(
    input_set: InputSet,
    sizing: Sizing,
    strict: bool,
    progress: Progress,
    threads: int | None,
    spool: PixelSpool | None,
    budget_bytes: int,
) -> LoadedViews:
    views: list[tuple[ViewRecord, NetworkImage]] = []
    skipped: list[SkippedFile] = []
    reasons: list[str] = []
    sizing = with_size_of_first(input_set.files, sizing)
    with contextlib.closing(load_network_images(input_set.files, sizing, threads, budget_bytes)) as results:
        for done, (file, result) in enumerate(results, start=1):
            if isinstance(result, NetworkImage):
                kept = result if spool is None else spool.keep(result)
                record = ViewRecord(
                    file.name,
                    file.source,
                    result.transform,
                    focal_35mm=result.focal_35mm,
                    image=file.image,
                )
                views.append((record, kept))
            else:
                # An image that is whole must not be lost for want of a library.
                if strict or isinstance(result, HeifSupportError):
                    raise _refusal(file.name, result)
                skipped.append(SkippedFile(file.source or file.name, str(result)))
                reasons.append(f"{file.name} {result}")
            progress(done, len(input_set.files))
    if not views and len(skipped) == 1:
        raise InputError(f"'{skipped[0].path}' {skipped[0].reason}; there is no other image to use")
    if not views:
        raise InputError(f"no image of '{input_set.label}' can be used: {_joined(reasons)}")
    notes = list(input_set.warnings)
    if skipped:
        number = f"{len(skipped)} of {counted(len(input_set.files), 'image')}"
        notes.append(f"{number} skipped: {_joined(reasons)}")
    return _assembled(views, sizing, notes, "image", spool, tuple(skipped))


def _joined(reasons: list[str]) -> str:
    return "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")


def _refusal(name: str, error: ImageReadError) -> Exception:
    if isinstance(error, HeifSupportError):
        return MissingExtraError(f"reading the HEIC image '{name}'", "heif")
    return DamagedInputError(f"'{name}' {error}; repair or remove it, or leave strict reading off to skip it")


def video_views(
    reader: VideoReader, file: InputFile, sizing: Sizing, after: int = -1
) -> Iterator[tuple[ViewRecord, NetworkImage]]:
    """The chosen frames of the video `file` as network images of one size: those after the frame `after`."""
    for frame in reader.frames():
        if frame.index <= after:
            continue
        try:
            view = make_network_image(frame.decoded, sizing)
        except ImageReadError as error:
            raise InputError(f"the frames of '{file.path}' cannot be used: the image {error}") from error
        sizing = sizing.with_size_of(view.transform)
        name = f"frame_{frame.index:06d}.png"
        yield ViewRecord(name, file.source, view.transform, frame.index, frame.time_s), view


def _read_video(
    input_set: InputSet, sizing: Sizing, strict: bool, progress: Progress, spool: PixelSpool | None
) -> LoadedViews:
    file = input_set.files[0]
    path, reader = file.path, VideoReader(file.path, input_set.options)
    views: list[tuple[ViewRecord, NetworkImage]] = []
    for record, view in video_views(reader, file, sizing):
        views.append((record, view if spool is None else spool.keep(view)))
        progress(len(views), max(len(views), reader.sampling.groups))
    if strict and reader.damage:
        raise DamagedInputError(f"'{path}' {reader.damage}; leave strict reading off to use what decodes")
    if not views:
        raise InputError(f"'{path}' has no usable frame in the asked range of time")
    notes = [*input_set.warnings, *reader.warnings()]
    return _assembled(views, sizing, notes, "frame", spool)


def _assembled(
    views: list[tuple[ViewRecord, NetworkImage]],
    sizing: Sizing,
    notes: list[str],
    noun: str,
    spool: PixelSpool | None,
    skipped: tuple[SkippedFile, ...] = (),
) -> LoadedViews:
    """All views on one canvas; empties `views`, so that pixels are not held twice for long."""
    height, width = shared_canvas([view.transform for _, view in views], sizing.policy)
    notes = [
        *notes,
        *image_warnings([(record.name, view) for record, view in views], sizing, (height, width), noun),
    ]
    shape = (len(views), height, width, 3)
    disk = None if spool is None else DiskImages(shape)
    images = np.empty(shape, dtype=np.uint8) if disk is None else disk.array
    if spool is not None:
        spool.rewind()
    records: list[ViewRecord] = []
    for image, (record, view) in zip(images, _drained(views)):
        pixels = view.pixels if spool is None else spool.next(view.pixels.shape)
        transform = paste_on_canvas(image, pixels, view.transform)
        records.append(dataclasses.replace(record, transform=transform))
        if disk is not None and len(records) % 64 == 0:
            disk.release()
    release = _nothing if disk is None else disk.release
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    return LoadedViews(batch, tuple(records), skipped, tuple(notes), release)


def _drained(views: list[tuple[ViewRecord, NetworkImage]]) -> Iterator[tuple[ViewRecord, NetworkImage]]:
    views.reverse()
    while views:
        yield views.pop()
