"""Which frames of a video are used: spacing, an upper limit, and the sharpest of a few neighbours.

Time is cut into slots (`Sampling.slot`), slots are joined into at most `max_frames` groups
(`Sampling.group`), and each group gives one frame (`pick_frames`). All of it works on a stream.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import UInt8

from ...files.spread import evenly_spread
from .options import DEFAULT_VIDEO_FRAMES, InputOptions

Frame = TypeVar("Frame")

# Time stamps are rounded to the container's clock; a frame this early still opens its slot.
_CLOCK_SLACK_S = 1e-3
# Grey levels (of 255) by which the pixels of two small copies differ on average, below which nothing moved.
_STILL = 0.7


@dataclasses.dataclass(frozen=True)
class Sampling:
    """The choice made for one video: at most `groups` frames.

    `starts`: the slots that open a group, the first and the last slot among them (None: every slot does).
    `by_default`: nothing says how many frames to use. Then frames in which nothing has moved are left out.
    """

    options: InputOptions
    groups: int = 1
    starts: tuple[int, ...] | None = None
    by_default: bool = False

    def slot(self, ordinal: int, time_s: float) -> int:
        """Slot of the `ordinal`-th frame of the range, `time_s` seconds into it."""
        if self.options.fps is not None:
            return int((time_s + _CLOCK_SLACK_S) * self.options.fps)
        return ordinal // (self.options.stride or self.options.sharpest_of or 1)

    def group(self, slot_rank: int) -> int:
        """Group of the `slot_rank`-th slot that holds a frame."""
        return slot_rank if self.starts is None else bisect.bisect_right(self.starts, slot_rank) - 1


def plan_sampling(
    options: InputOptions, times_s: Sequence[float], most: int = DEFAULT_VIDEO_FRAMES
) -> Sampling:
    """The sampling of a video whose frames in range are shown at these times (from the range's start).

    At most `most` frames where the options do not say how many.
    """
    by_default = options.by_default
    if by_default and times_s:
        options = options.default_of_video(times_s[-1] - times_s[0])
    spacing = Sampling(options)
    slots = len({spacing.slot(ordinal, time_s) for ordinal, time_s in enumerate(times_s)})
    # Of a number of neighbours the sharpest: that spaces the frames, but does not say how many.
    spaced = options.fps is not None or options.stride is not None
    limit = options.max_frames if options.max_frames is not None or (spaced and not by_default) else most
    if limit is None or slots <= limit:
        return Sampling(options, max(slots, 1), by_default=by_default)
    return Sampling(options, limit, tuple(evenly_spread(slots, limit)), by_default)


def pick_frames(
    frames: Iterable[tuple[float, Frame]], sampling: Sampling, score: Callable[[Frame], float]
) -> Iterator[Frame]:
    """One frame of each group: its first, or the one with the highest `score` of its first `sharpest_of`.

    `frames` are (seconds into the range, frame) in order of presentation; only one is held at a time.
    """
    window = sampling.options.sharpest_of or 1

    def numbered() -> Iterator[tuple[int, Frame]]:
        slots = itertools.groupby(enumerate(frames), lambda item: sampling.slot(item[0], item[1][0]))
        for rank, (_, slot) in enumerate(slots):
            for _, (_, frame) in slot:
                yield sampling.group(rank), frame

    for _, group in itertools.groupby(numbered(), lambda item: item[0]):
        first = (frame for _, frame in itertools.islice(group, window))
        yield max(first, key=score) if window > 1 else next(first)


class Motion:
    """Tells frames in which nothing has moved since the last one that was kept."""

    def __init__(self) -> None:
        self._kept: UInt8[np.ndarray, "height width"] | None = None

    def is_still(self, grey: UInt8[np.ndarray, "height width"]) -> bool:
        """Whether a small grey copy of a frame differs from that of the last kept one by noise alone."""
        kept = self._kept
        self._kept = grey
        if kept is None or kept.shape != grey.shape or np.abs(grey.astype(np.int16) - kept).mean() >= _STILL:
            return False
        self._kept = kept
        return True


def laplacian_variance(grey: UInt8[np.ndarray, "height width"]) -> float:
    """Variance of the Laplacian of a grey image: higher is sharper (Pech-Pacheco et al., ICPR 2000)."""
    values = grey.astype(np.int16)
    centre = values[1:-1, 1:-1]
    laplacian = values[:-2, 1:-1] + values[2:, 1:-1] + values[1:-1, :-2] + values[1:-1, 2:] - 4 * centre
    return float(laplacian.var()) if laplacian.size else 0.0
