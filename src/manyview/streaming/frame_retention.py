"""Which frames of a stream stay in memory: a rule of numbers alone, the same for any size of chunks."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=64)
def kept_frames(arrived: int, keep_one_in: int = 1, limit: int | None = None) -> tuple[int, ...]:
    """Frames in memory, in order, after `arrived` frames (at least one).

    Every `keep_one_in`-th frame from frame 0 on; where these are more than `limit`, one half of it are the
    latest of them, and the others lie evenly over the whole past: every 2ⁿ-th, with the smallest n that
    fits. Frame 0 always stays. What is kept later was kept before, so nothing need be looked up again.
    """
    every = range(0, arrived, keep_one_in)
    if limit is None or len(every) <= limit:
        return tuple(every)
    spread = (limit + 1) // 2
    step = keep_one_in
    while len(range(0, arrived, step)) > spread:
        step *= 2
    latest = every[len(every) - (limit - spread) :]
    return tuple(sorted({*range(0, arrived, step), *latest}))
