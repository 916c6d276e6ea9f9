"""Options of the input, and what `find_inputs` found."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Literal

from ..._option_checks import check_options
from ...errors import UsageError
from ...files.paths import path_as_text
from .in_memory import InMemoryImage

# With no sampling option, a video gives at most this many frames: dense global attention is quadratic in
# them, and VGGT-type models gain little beyond it.
DEFAULT_VIDEO_FRAMES = 200
DEFAULT_VIDEO_FPS = 2.0
LEAST_VIDEO_FRAMES = 24
"""Of a short video, where it has so many."""
DEFAULT_SHARPEST_OF = 5


@dataclasses.dataclass(frozen=True)
class InputOptions:
    """Which images or frames to use; all None means every image, or of a video what `default_of_video` says.

    First every `stride`-th, then of those at most `max_frames`.
    """

    fps: float | None = None
    """Video: frames a second to use, in place of a stride."""
    max_frames: int | None = None
    """Use at most this many, evenly spread."""
    stride: int | None = None
    """Use every n-th image or frame."""
    start_s: float | None = None
    """Video: first second to use."""
    end_s: float | None = None
    """Video: last second to use."""
    sharpest_of: int | None = None
    """Video: of this many consecutive frames take the sharpest."""

    def __post_init__(self) -> None:
        check_options(
            self,
            at_least={"max_frames": 1, "stride": 1, "sharpest_of": 1, "start_s": 0, "end_s": 0},
            above={"fps": 0},
        )
        if self.fps is not None and self.stride is not None:
            raise UsageError("fps and stride both choose the spacing of frames; give only one of them")
        if self.end_s is not None and self.end_s <= (self.start_s or 0.0):
            raise UsageError(f"end_s ({self.end_s:g}) must be later than start_s ({self.start_s or 0:g})")

    @property
    def by_default(self) -> bool:
        """Whether nothing says how many frames of a video to use."""
        asked = (self.max_frames, self.fps, self.stride, self.sharpest_of)
        return asked == (None, None, None, None)

    def default_of_video(self, seconds: float) -> InputOptions:
        """Two frames a second, the sharpest of five neighbours each, and at least 24 of a short video."""
        fps = max(DEFAULT_VIDEO_FPS, LEAST_VIDEO_FRAMES / max(seconds, 1e-3))
        return dataclasses.replace(self, fps=fps, sharpest_of=DEFAULT_SHARPEST_OF)

    @property
    def video_only(self) -> tuple[str, ...]:
        """Names of the options that are set and have a meaning for video alone."""
        names = ("fps", "start_s", "end_s", "sharpest_of")
        return tuple(name for name in names if getattr(self, name) is not None)


@dataclasses.dataclass(frozen=True)
class InputFile:
    """One image or video: where it is, and the unique name of its view.

    `image` is one given in memory; then there is no file at `path`, which is but its name.
    """

    path: Path
    name: str
    image: InMemoryImage | None = dataclasses.field(default=None, compare=False, repr=False)

    @property
    def source(self) -> str:
        """The absolute path as a result stores it (`path_as_text`); empty for an image in memory."""
        return "" if self.image is not None else path_as_text(os.path.abspath(self.path))


@dataclasses.dataclass(frozen=True)
class InputSet:
    """The files that a request stands for, in the order they are fed; nothing is decoded yet.

    `files` are the images, or the one video. `label` is the name of the input in
    messages. `warnings` are sentences for the user. `most_frames` of a video are used if the options do not
    say how many.
    """

    kind: Literal["photos", "video"]
    label: str
    files: tuple[InputFile, ...]
    options: InputOptions = InputOptions()
    warnings: tuple[str, ...] = ()
    most_frames: int = DEFAULT_VIDEO_FRAMES
