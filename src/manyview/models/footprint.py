"""Bytes of memory that parts of a forward pass take, of which each family says its own."""

from __future__ import annotations

import dataclasses

from ..attention.layout import TokenLayout
from .part_configs import DenseHeadConfig
from .run_options import RunOptions


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


def converted_head_bytes(head: DenseHeadConfig, options: RunOptions) -> int:
    """Weights of a head's convolutions once more, where they run in another order or precision."""
    if not options.channels_last and options.head_dtype is None:
        return 0
    finest, second, _, coarsest = head.out_channels
    resizing = 16 * finest**2 + 4 * second**2 + 9 * coarsest**2
    # Four maps to one width, seven residual units of two convolutions, the last convolutions.
    return 4 * (resizing + 9 * head.features * sum(head.out_channels) + 9 * 15 * head.features**2)


def dense_head_bytes(head: DenseHeadConfig, layout: TokenLayout, pixels: int) -> int:
    """Largest work of a dense head on one frame: the finest fusion, or the output at full size."""
    patches, features = layout.patches_per_frame, head.features
    one, two, three, four = head.out_channels
    # The four maps as they came, and at one width; the finest twice more, at twice its size twice.
    maps = 16 * one + 4 * two + three + four // 4
    fusion = patches * (maps + 22 * features + 2 * 16 * features + 2 * 64 * features)
    output = pixels * (features // 2 + 2 * 32 + 6) + patches * 32 * features
    return 4 * max(fusion, output)
