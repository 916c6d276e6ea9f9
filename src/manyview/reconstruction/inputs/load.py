"""From found files to the uint8 batch that the network takes, with a record of every view."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from jaxtyping import UInt8

from ...distributed.ranks import Ranks
from ...errors import DamagedInputError, InputError, MissingExtraError
from ...files.naming import counted
from ...models.config import SizePolicy
from .decode import HeifSupportError, ImageReadError
from .decode_pool import DECODING_BYTES, load_network_images, with_size_of_first
from .input_warnings import image_warnings
from .network_image import NetworkImage, Sizing, make_network_image
from .options import InputFile, InputSet
from .over_ranks import View, unusable_of_all, views_of_all
from .preprocess import centre_on_canvas, check_sizes, paste_on_canvas, shared_canvas
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

    In memory the colours of a pixel lie together, as decoders give them and as results keep them. Where
    several ranks read, `images` are this rank's, and all else is about the images of all ranks.

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
    everyone: Ranks | None = None,
    own: slice = slice(None),
) -> LoadedViews:
    """Decode and resize every view of `input_set`; the same files give the same result.

    `target_size` and `patch_size` are in network pixels; for the policy "area" a `pixel_limit` takes the
    place of the target size. Damaged files are skipped and named; with
    `strict` the first one raises `DamagedInputError`. Raises `InputError` if no usable view is left.
    Images at full resolution take up to `budget_bytes` (see `load_network_images`); with `on_disk` the
    network images are in an unnamed temporary file, and memory does not grow with their number. Raises
    MemoryLimitError for an image that does not fit in memory.

    With `everyone` all these ranks read, each its `own` of the photos that `usable_photos` gave. A file that
    cannot be decoded is then an error: without it every rank would have other frames.
    """
    check_sizes(policy, target_size, patch_size)
    sizing = Sizing(policy, target_size, patch_size, pixel_limit)
    report = progress or (lambda done, total: None)
    with PixelSpool() if on_disk else contextlib.nullcontext() as spool:
        if input_set.kind == "video":
            return _read_video(input_set, sizing, strict, report, spool)
        return _read_photos(input_set, sizing, strict, report, threads, spool, budget_bytes, everyone, own)


def usable_photos(
    input_set: InputSet, sizing: Sizing, strict: bool, everyone: Ranks
) -> tuple[InputSet, tuple[SkippedFile, ...]]:
    """The photos of which the headers say no ill, with a note on the others, and these.

    Every rank opens some of the files. Raises as `read_views`.
    """
    files = input_set.files
    failed = dict(unusable_of_all(files, with_size_of_first(files, sizing), everyone))
    for place, error in failed.items():
        if strict or isinstance(error, HeifSupportError):
            raise _refusal(files[place].name, error)
    left = [(files[place], error) for place, error in failed.items()]
    skipped, notes = _skipped(input_set, left)
    kept = tuple(file for place, file in enumerate(files) if place not in failed)
    return dataclasses.replace(input_set, files=kept, warnings=notes), skipped


def _read_photos(
    input_set: InputSet,
    sizing: Sizing,
    strict: bool,
    progress: Progress,
    threads: int | None,
    spool: PixelSpool | None,
    budget_bytes: int,
    everyone: Ranks | None,
    own: slice,
) -> LoadedViews:
    views: list[View] = []
    failed: list[tuple[InputFile, ImageReadError]] = []
    files, sizing = input_set.files[own], with_size_of_first(input_set.files, sizing)
    with contextlib.closing(load_network_images(files, sizing, threads, budget_bytes)) as results:
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
                if everyone is not None:
                    raise DamagedInputError(
                        f"'{file.name}' {result}; repair or remove it, or run in one process, which skips it"
                    )
                failed.append((file, result))
            progress(done, len(files))
    if everyone is not None:
        whole = views_of_all(views, input_set.files, everyone)
        return _assembled(views, sizing, input_set.warnings, "image", spool, whole=whole)
    skipped, notes = _skipped(input_set, failed)
    return _assembled(views, sizing, notes, "image", spool, skipped)


def _skipped(
    input_set: InputSet, failed: Sequence[tuple[InputFile, ImageReadError]]
) -> tuple[tuple[SkippedFile, ...], tuple[str, ...]]:
    """Files that cannot be used, and the warnings with one about them; InputError where no other is left."""
    skipped = tuple(SkippedFile(file.source or file.name, str(error)) for file, error in failed)
    reasons = [f"{file.name} {error}" for file, error in failed]
    count = len(input_set.files)
    if len(skipped) == count == 1:
        raise InputError(f"'{skipped[0].path}' {skipped[0].reason}; there is no other image to use")
    if len(skipped) == count:
        raise InputError(f"no image of '{input_set.label}' can be used: {_joined(reasons)}")
    if not skipped:
        return (), input_set.warnings
    note = f"{len(skipped)} of {counted(count, 'image')} skipped: {_joined(reasons)}"
    return skipped, (*input_set.warnings, note)


def _joined(reasons: list[str]) -> str:
    return "; ".join(reasons[:5]) + (f"; and {len(reasons) - 5} more" if len(reasons) > 5 else "")


def _refusal(name: str, error: ImageReadError) -> Exception:
    if isinstance(error, HeifSupportError):
        return MissingExtraError(f"reading the HEIC image '{name}'", "heif")
    return DamagedInputError(f"'{name}' {error}; repair or remove it, or leave strict reading off to skip it")


def video_views(reader: VideoReader, file: InputFile, sizing: Sizing, after: int = -1) -> Iterator[View]:
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
    path, reader = file.path, VideoReader(file.path, input_set.options, input_set.most_frames)
    views: list[View] = []
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
    views: list[View],
    sizing: Sizing,
    notes: Sequence[str],
    noun: str,
    spool: PixelSpool | None,
    skipped: tuple[SkippedFile, ...] = (),
    whole: Sequence[View] | None = None,
) -> LoadedViews:
    """All views on one canvas; empties `views`, so that pixels are not held twice for long.

    `whole`: the views of all ranks without their pixels, where `views` are those of one.
    """
    known = views if whole is None else whole
    height, width = shared_canvas([view.transform for _, view in known], sizing.policy)
    notes = [
        *notes,
        *image_warnings([(record.name, view) for record, view in known], sizing, (height, width), noun),
    ]
    records = [
        dataclasses.replace(record, transform=centre_on_canvas(view.transform, height, width))
        for record, view in known
    ]
    shape = (len(views), height, width, 3)
    disk = None if spool is None else DiskImages(shape)
    images = np.empty(shape, dtype=np.uint8) if disk is None else disk.array
    if spool is not None:
        spool.rewind()
    for done, (image, (_, view)) in enumerate(zip(images, _drained(views)), start=1):
        pixels = view.pixels if spool is None else spool.next(view.pixels.shape)
        paste_on_canvas(image, pixels, view.transform)
        if disk is not None and done % 64 == 0:
            disk.release()
    release = _nothing if disk is None else disk.release
    batch = torch.from_numpy(images).permute(0, 3, 1, 2)
    return LoadedViews(batch, tuple(records), skipped, tuple(notes), release)


def _drained(views: list[View]) -> Iterator[View]:
    views.reverse()
    while views:
        yield views.pop()
