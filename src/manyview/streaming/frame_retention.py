"""Which frames of a stream stay in memory, from their numbers alone."""

from __future__ import annotations

import dataclasses
import functools


@dataclasses.dataclass(frozen=True)
class RetentionRule:
    """Of every `keep_one_in` frames the first is kept, at most `limit` frames in all (None: no bound).

    `by_chunk` follows the released code: frames are counted within each chunk, and the dropped ones are
    masked in their own chunk too.
    """

    keep_one_in: int = 5
    limit: int | None = None
    by_chunk: bool = False


@functools.lru_cache(maxsize=64)
def retained_frames(arrived: int, keep_one_in: int = 1, limit: int | None = None) -> tuple[int, ...]:
    """Frames in memory, in order, after `arrived` frames (at least one).

    Every `keep_one_in`-th frame from frame 0 on; if these are more than `limit`, half of them are the
    latest, the others lie evenly over the whole past: every 2ⁿ-th, with the smallest n that fits. Frame 0
    always stays. A frame kept later was kept before.
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
