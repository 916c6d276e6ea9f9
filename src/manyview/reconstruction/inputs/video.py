"""A video as a stream of chosen upright frames, through PyAV; damage is reported, not hidden."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ...errors import DamagedInputError, InputError, ManyViewError, optional_module
from ...files.naming import counted
from .decode import DecodedImage, apply_orientation
from .file_type import read_head, video_container
from .options import DEFAULT_VIDEO_FRAMES, InputOptions
from .sampling import Motion, laplacian_variance, pick_frames, plan_sampling

# Longer side of the grey copy on which sharpness is measured: keeps motion blur, drops sensor noise.
_SHARPNESS_SIDE = 480

# The same of the copy that tells whether anything has moved.
_MOTION_SIDE = 64

# EXIF orientation that turns as the display matrix asks; PyAV gives its angle counter-clockwise.
_ORIENTATION_OF_ANGLE = {0: 1, 90: 8, 180: 3, 270: 6}

# Undamaged files announce a frame or two that no player shows; more missing than this is damage.
_HARMLESS_LOSS = 2
_HARMLESS_SHARE = 0.01


@dataclasses.dataclass(frozen=True)
class VideoFrame:
    """One chosen frame: its index among all decoded frames, and seconds from the start of the video."""

    decoded: DecodedImage
    index: int
    time_s: float


class VideoReader:
    """Reads one video once: `frames()` yields the chosen frames, the other attributes describe it.

    The file is first scanned without decoding, so that frames can be spread evenly; the numbers in warnings
    are counted while decoding, because containers announce wrong numbers. Raises `DamagedInputError` if the
    file does not open or nothing decodes, `InputError` if it has no images in the range of time.
    """

    def __init__(self, path: Path, options: InputOptions, most: int = DEFAULT_VIDEO_FRAMES) -> None:
        """`most` frames at most where the options do not say how many."""
        self.path = path
        self.options = options
        self.decoded = 0  # frames that decoded, before the end of the range
        self.in_range = self.used = self.still = 0
        self.faults = 0  # decoding errors and frames with visible damage
        self.interlaced = False
        with _opened(self.path) as (container, stream):
            self.declared = int(stream.frames or 0)
            self.declared_s = (container.duration or 0) / 1e6
            self.native_fps = float(stream.average_rate or stream.base_rate or 30)
            self.pixel_aspect = float(stream.sample_aspect_ratio or 1)
            self._start = stream.start_time
            times_s = self._scan(container, stream)
        self._packets = len(times_s)
        self._end_s = times_s[-1] + 1 / self.native_fps if times_s else 0.0
        self._stopped_early = False
        asked = [time_s - self._range_start for time_s in times_s if self._in_range(time_s)]
        if times_s and not asked:
            raise InputError(
                f"'{path}' has no frame in the asked range of time; it lasts {times_s[-1]:.1f} seconds"
            )
        self._lasts_s = asked[-1] - asked[0] + 1 / self.native_fps if asked else 0.0
        self.sampling = plan_sampling(options, asked, most)

    @property
    def _range_start(self) -> float:
        return self.options.start_s or 0.0

    def _in_range(self, time_s: float) -> bool:
        end = self.options.end_s
        return time_s >= self._range_start and (end is None or time_s <= end)

    def _time_s(self, stamp: int | None, index: int, time_base: Any) -> float:
        """Seconds from the start of the video; from the frame rate where the container gives no time."""
        if stamp is None:
            return index / self.native_fps
        return float((stamp - (self._start or 0)) * time_base)

    def _scan(self, container: Any, stream: Any) -> list[float]:
        packets = (p for p in self._packets_of(container, stream) if p.size and not p.is_discard)
        return sorted(self._time_s(p.pts, index, stream.time_base) for index, p in enumerate(packets))

    def _packets_of(self, container: Any, stream: Any) -> Iterator[Any]:
        """Packets up to the end or up to where the file breaks; a break shows as missing frames."""
        from av.error import FFmpegError

        with contextlib.suppress(FFmpegError):
            yield from container.demux(stream)

    def frames(self) -> Iterator[VideoFrame]:
        """The chosen frames, each decoded when it is asked for."""
        convert, motion = _Converter(), Motion()
        candidates = (
            (time_s - self._range_start, (index, time_s, frame))
            for index, time_s, frame in self._sound_frames()
        )
        for index, time_s, frame in pick_frames(candidates, self.sampling, lambda c: convert.sharpness(c[2])):
            if self.sampling.by_default and motion.is_still(convert.to_grey(frame, _MOTION_SIDE)):
                self.still += 1
                continue
            self.used += 1
            angle = round(frame.rotation / 90) * 90 % 360
            yield VideoFrame(
                apply_orientation(convert.to_rgb(frame), _ORIENTATION_OF_ANGLE[angle]), index, time_s
            )
        if not self.decoded:
            raise DamagedInputError(
                f"no frame of '{self.path}' can be decoded; convert it with another program"
            )

    def _sound_frames(self) -> Iterator[tuple[int, float, Any]]:
        """(index, time, frame) of every undamaged frame in the range, in order of presentation.

        Decoded by threads that work on several frames at once; those disagree from run to run about what
        is lost around damage, so at the first fault the file is started again with one frame at a time.
        """
        delivered = -math.inf
        for threading in ("FRAME", "SLICE"):
            self.decoded = self.in_range = self.faults = 0
            for time_s, frame in self._decode(threading):
                if frame is None or frame.is_corrupt:
                    self.faults += 1
                if self.faults and threading == "FRAME":
                    break
                if frame is None:
                    continue
                self.decoded += 1
                self.interlaced |= bool(frame.interlaced_frame)
                if frame.is_corrupt or not self._in_range(time_s):
                    continue
                self.in_range += 1
                if time_s > delivered:
                    delivered = time_s
                    yield self.decoded - 1, time_s, frame
            else:
                return

    def _decode(self, threading: str) -> Iterator[tuple[float, Any]]:
        """(time, frame) up to the end of the range; the frame is None where decoding failed."""
        from av.error import FFmpegError

        count = 0
        with _opened(self.path) as (container, stream):
            stream.thread_type = threading
            for packet in self._packets_of(container, stream):
                try:
                    frames = packet.decode()
                except FFmpegError:
                    yield math.nan, None
                    continue
                for frame in frames:
                    time_s = self._time_s(frame.pts, count, frame.time_base)
                    count += 1
                    if self.options.end_s is not None and time_s > self.options.end_s:
                        self._stopped_early = True
                        return
                    yield time_s, frame

    @property
    def damage(self) -> str | None:
        """What is wrong with the file, as the end of a sentence that starts with its name; or None."""
        announced = max(self.declared, self._packets)
        allowed = max(_HARMLESS_LOSS, round(_HARMLESS_SHARE * announced))
        if not self._stopped_early and announced - self.decoded > allowed:
            return (
                f"breaks off or is damaged: only {self.decoded} of the {announced} frames it announces decode"
            )
        missing_s = self.declared_s - self._end_s
        if not self._stopped_early and not self.declared and missing_s > max(1.0, 0.1 * self.declared_s):
            return f"breaks off after {self._end_s:.1f} of {self.declared_s:.1f} seconds"
        if self.faults:
            return f"is damaged in {counted(self.faults, 'place')}; {self.decoded} frames decode"
        return None

    def warnings(self) -> list[str]:
        """Sentences for the user about the video and the choice of frames; call when all are read."""
        name = self.path.name
        notes = []
        if self.damage:
            notes.append(f"'{name}' {self.damage}; what decodes is used")
        sampling = self.sampling
        if sampling.by_default and self.used < self.in_range:
            spaced = f"the sharpest, about {self.used / max(self._lasts_s, 1e-3):.2g} a second"
            still = f", without {self.still} in which nothing moved" if self.still else ""
            notes.append(
                f"{self.used} of {self.in_range} frames are used: {spaced}{still}; "
                "--fps, --stride or --max-frames (fps, stride, max_frames) choose others"
            )
        elif self.used < self.in_range:
            notes.append(f"{self.used} of {self.in_range} frames are used")
        if self.options.fps is not None and self.options.fps > self.native_fps * 1.01:
            asked = f"fewer than the {self.options.fps:g} asked for"
            notes.append(f"'{name}' has {self.native_fps:.3g} frames per second, {asked}")
        if abs(self.pixel_aspect - 1) > 0.01:
            notes.append(
                f"'{name}' has pixels that are not square (width/height {self.pixel_aspect:.3f}), kept so"
            )
        if self.interlaced:
            notes.append(
                f"'{name}' is interlaced, which blurs moving edges; deinterlace it for a better result"
            )
        return notes


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    av = optional_module("av", f"reading the video '{path}'", "video")
    try:
        # The prefix keeps FFmpeg from taking "name:..." for a protocol. A container that is named keeps it
        # from finding a playlist in the file, which would have it open others.
        container = av.open(f"file:{path}", format=video_container(read_head(path)))
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise DamagedInputError(
            f"'{path}' does not open as a video: it is cut off, damaged or no video; "
            "copy it again from the camera or convert it with another program"
        ) from error
    with container:
        stream: Any = container.streams.best("video")
        if stream is None:
            kinds = " and ".join(sorted({one.type for one in container.streams}))
            held = f"only {kinds} and no images" if kinds else "no streams"
            raise InputError(f"'{path}' holds {held}; give a video")
        yield container, stream


def stored_size(path: Path) -> tuple[int, int] | None:
    """(width, height) of a video's frames as its header gives them; None if that cannot be read."""
    try:
        with _opened(path) as (_, stream):
            return int(stream.codec_context.width), int(stream.codec_context.height)
    except ManyViewError:  # said when it is read
        return None


class _Converter:
    """Colour conversion with its tables kept: a new converter for every frame costs fifty times more."""

    def __init__(self) -> None:
        from av.video.reformatter import VideoReformatter

        self._rgb, self._grey = VideoReformatter(), VideoReformatter()

    def to_rgb(self, frame: Any) -> Image.Image:
        return Image.fromarray(self._rgb.reformat(frame, format="rgb24").to_ndarray())

    def to_grey(self, frame: Any, side: int) -> UInt8[np.ndarray, "height width"]:
        """A copy of at most `side` pixels on the longer side."""
        scale = min(1.0, side / max(frame.width, frame.height))
        width, height = max(3, round(frame.width * scale)), max(3, round(frame.height * scale))
        small = self._grey.reformat(frame, width, height, format="gray", interpolation="AREA")
        grey: np.ndarray = small.to_ndarray()
        return grey

    def sharpness(self, frame: Any) -> float:
        return laplacian_variance(self.to_grey(frame, _SHARPNESS_SIDE))
