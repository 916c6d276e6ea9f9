"""Bytes of memory that parts of a forward pass take, of which each family says its own."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class HeadFootprint:
    """`taps`, `at_end`, `outputs`: bytes a frame that are kept while the trunk runs, of the trunk's end while
    heads run, and as results. `project`, `work`: temporaries while a tap is read, and while heads run."""

    taps: int
    at_end: int
    outputs: int
    project: int
    work: int


@dataclasses.dataclass(frozen=True)
class KnownFootprint:
    """`held`: bytes a frame of the inputs themselves; `embedding`, `injecting`: of all frames, beside those,
    while known depth and rays, and known poses, change the tokens (the tokens themselves included)."""

    held: int = 0
    embedding: int = 0
    injecting: int = 0
