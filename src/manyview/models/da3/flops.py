"""Floating-point operations of Depth Anything 3's heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..flop_counts import POSE_NUMBERS, conv, dense_head, fusions, linear, places

if TYPE_CHECKING:
    from .config import DA3Config

_RAY_CHANNELS = 7


def head_flops(
    config: DA3Config, layout: TokenLayout, heads: Collection[str], query_points: int
) -> dict[str, float]:
    """Operations by stage; the head's projections run, and are counted, with the global layers.

    Rays and depth come out of one head together, and are counted with depth.
    """
    dim, frames, patches = 2 * config.dim, layout.frames, layout.patches_per_frame
    result = {"global layers": 0.0}
    if "camera" in heads:
        result["camera head"] = 2 * linear(frames, dim, dim) + linear(frames, dim, POSE_NUMBERS)
    if config.head is None or not {"depth", "rays"} & set(heads):
        return result
    head = config.head
    result["global layers"] = frames * sum(linear(patches, dim, width) for width in head.out_channels)
    (rows, columns), half = layout.grid, head.features // 2
    once = places(3, half, 32, (rows * config.patch_size, columns * config.patch_size))
    total = dense_head(head, 2, layout.grid, config.patch_size)
    if "rays" in heads:  # a second set of fusions on the same maps, then five convolutions and the output
        features, area = head.features, 64 * patches
        total += fusions(features, layout.grid) + 5 * conv(3, features, half, area)
        total += conv(3, half, 32, area) + conv(1, 32, _RAY_CHANNELS, area)
        once += places(3, half, 32, (8 * rows, 8 * columns))
    result["depth head" if "depth" in heads else "rays head"] = frames * total + once
    return result
