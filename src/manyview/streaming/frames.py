"""Frames of a stream, of one size, from files, a folder that grows, or Python objects."""

from __future__ import annotations

import dataclasses
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..errors import DamagedInputError, InputError, UsageError
from ..files.schema import file_sha256
from ..reconstruction.inputs.decode import ImageReadError
from ..reconstruction.inputs.decode_pool import load_network_images
from ..reconstruction.inputs.find import find_inputs
from ..reconstruction.inputs.in_memory import decode_input, split_batches
from ..reconstruction.inputs.load import video_views
from ..reconstruction.inputs.network_image import NetworkImage, Sizing, make_network_image
from ..reconstruction.inputs.options import InputOptions, InputSet
from ..reconstruction.inputs.preprocess import paste_on_canvas
from ..reconstruction.inputs.video import VideoReader
from ..reconstruction.inputs.views import ViewRecord

_POLL_S = 0.2
_END = object()
Item = TypeVar("Item")

_ANEW = "; give it back, or start anew with --overwrite"


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One network image of a stream, where it came from, and the SHA-256 of that file."""

    image: UInt8[Tensor, "3 height width"]
    record: ViewRecord
    sha256: str


class FrameSource:
    """Frames of a folder, glob pattern, text list or video, decoded lazily, all on one canvas.

    Args:
        spec: where the frames are.
        sizing: how they are resized.
        options: which frames are used (None: all; a video is not subsampled).
        after: the last frame of the stream so far, where it is resumed.
        canvas: (height, width) of the network images (None: that of the first frame).
        follow_s: wait for new images of a folder until none has arrived for so many seconds.
        strict: raise DamagedInputError for a damaged image instead of skipping it with a line in `warnings`.

    Raises InputError for a frame that does not fit on the canvas.
    """

    def __init__(
        self,
        spec: str | Path,
        sizing: Sizing,
        options: InputOptions | None = None,
        *,
        after: ViewRecord | None = None,
        canvas: tuple[int, int] | None = None,
        follow_s: float | None = None,
        strict: bool = False,
    ) -> None:
        options = options or InputOptions()
        if (options.fps, options.stride, options.max_frames) == (None, None, None):
            options = dataclasses.replace(options, stride=1)
        self._spec, self._sizing, self._options = spec, sizing, options
        self._video_sha256 = ""
        self._after, self._canvas, self._follow_s, self._strict = after, canvas, follow_s, strict
        if follow_s is not None and not Path(spec).is_dir():
            raise UsageError(f"--follow-s needs a folder of images, and '{spec}' is none")
        if follow_s is not None and options.max_frames is not None:
            raise UsageError("max_frames needs all files at once, and a followed folder still grows")
        self._found = find_inputs(spec, options) if follow_s is None else self._awaited(follow_s)
        self._reader = VideoReader(self._found.files[0].path, options) if self.is_video else None
        self.warnings = list(self._found.warnings)

    @property
    def is_video(self) -> bool:
        return self._found.kind == "video"

    @property
    def total(self) -> int | None:
        """Expected number of frames, those up to `after` included; None if a folder is followed."""
        if self._follow_s is not None:
            return None
        return len(self._found.files) if self._reader is None else self._reader.sampling.groups

    def __iter__(self) -> Iterator[Frame]:
        for record, view, path in self._from_video() if self._reader is not None else self._from_photos():
            yield self._placed(record, view, path)

    def check_unchanged(
        self, before: Sequence[tuple[str, str]], progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Raise UsageError unless frames that were read before are in the same files with the same content.

        `before`: name and SHA-256 of each; `progress` takes (done, total).
        """
        files = {file.name: file.path for file in self._found.files}
        for number, (name, sha256) in enumerate(before):
            path = self._found.files[0].path if self.is_video else files.get(name)
            if path is None:
                raise UsageError(
                    f"'{name}', a frame of the stream so far, is not in the input any more{_ANEW}"
                )
            if self._sha256(path) != sha256:
                raise UsageError(f"'{path}' has changed since the stream read it{_ANEW}")
            if progress is not None:
                progress(number + 1, len(before))

    def _sha256(self, path: Path) -> str:
        """Of an image now; of a video, which gives all frames, once."""
        try:
            if not self.is_video:
                return file_sha256(path)
            self._video_sha256 = self._video_sha256 or file_sha256(path)
        except OSError as error:
            raise InputError(f"'{path}' cannot be read any more: {error.strerror}") from error
        return self._video_sha256

    def _from_video(self) -> Iterator[tuple[ViewRecord, NetworkImage, Path]]:
        reader = self._reader
        assert reader is not None
        done = -1 if self._after is None or self._after.video_frame is None else self._after.video_frame
        for record, view in video_views(reader, self._found.files[0], self._sizing, done):
            yield record, view, reader.path
        if self._strict and reader.damage:
            raise DamagedInputError(f"'{reader.path}' {reader.damage}; leave strict reading off to go on")
        self.warnings += reader.warnings()

    def _from_photos(self) -> Iterator[tuple[ViewRecord, NetworkImage, Path]]:
        seen: set[str] = set()
        found = self._found
        if self._after is not None:
            names = [file.name for file in found.files]
            seen.update(names[: names.index(self._after.name) + 1])
        last_arrival = time.monotonic()
        while True:
            new = tuple(file for file in found.files if file.name not in seen)
            ready = new if self._follow_s is None else tuple(f for f in new if _is_settled(f.path))
            for file, result in load_network_images(ready, self._sizing):
                seen.add(file.name)
                if isinstance(result, NetworkImage):
                    record = ViewRecord(
                        file.name, file.source, result.transform, focal_35mm=result.focal_35mm
                    )
                    yield record, result, file.path
                    last_arrival = time.monotonic()
                elif self._strict:
                    raise DamagedInputError(f"'{file.name}' {result}; leave strict reading off to skip it")
                else:
                    self.warnings.append(f"{file.name} left out: it {result}")
            quiet = len(ready) == len(new) and time.monotonic() - last_arrival > (self._follow_s or 0)
            if self._follow_s is None or quiet:
                return
            time.sleep(_POLL_S)
            found = find_inputs(self._spec, self._options)

    def _awaited(self, seconds: float) -> InputSet:
        """The images of the folder once there is one; raises InputError if none arrives in time."""
        start = time.monotonic()
        while True:
            try:
                return find_inputs(self._spec, self._options)
            except InputError:
                if time.monotonic() - start > seconds:
                    raise
            time.sleep(_POLL_S)

    def _placed(self, record: ViewRecord, view: NetworkImage, path: Path) -> Frame:
        if self._canvas is None:
            self._canvas = view.transform.network_size
        image, transform = _on_canvas(record.name, view, self._canvas)
        return Frame(image, dataclasses.replace(record, transform=transform), self._sha256(path))


def read_ahead(items: Iterator[Item], most: int) -> Iterator[Item]:
    """`items`, up to `most` of which a thread makes before they are asked for."""
    pool = ThreadPoolExecutor(1, thread_name_prefix="manyview-ahead")
    waiting: deque[Future[Any]] = deque(pool.submit(next, items, _END) for _ in range(most))
    try:
        while (item := waiting.popleft().result()) is not _END:
            waiting.append(pool.submit(next, items, _END))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)


def _is_settled(path: Path) -> bool:
    """Whether the file has not been written to recently."""
    return time.time() - path.stat().st_mtime > 2 * _POLL_S


def frames_of_objects(items: Iterable[Any], sizing: Sizing) -> Iterator[UInt8[Tensor, "3 height width"]]:
    """Network images from paths, Pillow images, uint8 arrays [H, W, 3], or tensors [3, H, W] (unchanged).

    Raises InputError for what cannot be read or does not fit on the canvas of the first.
    """
    canvas: tuple[int, int] | None = None
    for number, item in enumerate(split_batches(items)):
        if isinstance(item, Tensor):
            yield item
            continue
        try:
            view = make_network_image(decode_input(item, f"frame {number}"), sizing)
        except ImageReadError as error:
            raise InputError(f"frame {number} of the stream {error}") from error
        canvas = canvas or view.transform.network_size
        yield _on_canvas(f"frame {number}", view, canvas)[0]


def _on_canvas(
    name: str, view: NetworkImage, canvas: tuple[int, int]
) -> tuple[UInt8[Tensor, "3 height width"], Any]:
    height, width = view.pixels.shape[:2]
    if height > canvas[0] or width > canvas[1]:
        raise InputError(
            f"{name} becomes {width}x{height} pixels, the stream has {canvas[1]}x{canvas[0]}: all its frames "
            "share one size; use --size-policy pad for mixed shapes"
        )
    image = np.empty((*canvas, 3), dtype=np.uint8)
    transform = paste_on_canvas(image, view.pixels, view.transform)
    return torch.from_numpy(image).permute(2, 0, 1), transform
