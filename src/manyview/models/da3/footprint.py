"""Memory of Depth Anything 3's heads in a forward pass, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..footprint import HeadFootprint, converted_head_bytes, dense_head_bytes
from ..run_options import RunOptions

if TYPE_CHECKING:
    from .config import DA3Config

_RAY_CHANNELS = 7


def head_footprint(
    config: DA3Config, layout: TokenLayout, options: RunOptions, element_bytes: int
) -> HeadFootprint:
    """See `NetworkConfig.head_footprint`. The camera decoder takes next to nothing."""
    head = config.head
    if head is None or not {"depth", "rays"} & set(options.heads):
        return HeadFootprint(taps=0, at_end=0, outputs=0, project=0, work=0)
    piece = min(options.head_frames_per_chunk or layout.frames, layout.frames)
    patches = layout.patches_per_frame
    pixels = patches * config.patch_size**2
    rays = 64 * patches * _RAY_CHANNELS if "rays" in options.heads else 0
    laterals = 22 * patches * head.features * 4  # they outlive the fusions, for the second branch
    return HeadFootprint(
        taps=patches * sum(head.out_channels) * element_bytes,
        at_end=0,
        outputs=(2 * pixels + rays) * 4,
        project=piece * layout.tokens_per_frame * 2 * config.dim * 4 * 3,
        work=piece * (dense_head_bytes(head, layout, pixels) + laterals)
        + converted_head_bytes(head, options),
    )
