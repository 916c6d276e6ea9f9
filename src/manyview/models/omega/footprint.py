"""Memory of VGGT-Ω's heads in a forward pass, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..footprint import HeadFootprint
from ..run_options import RunOptions

if TYPE_CHECKING:
    from .config import OmegaConfig

# Special tokens of all frames while a block of the camera or text head runs.
_READOUT_TENSORS = 11
# Finest maps beside all four while the last fusion runs.
_FUSION_TENSORS = 5


def head_footprint(
    config: OmegaConfig, layout: TokenLayout, options: RunOptions, element_bytes: int
) -> HeadFootprint:
    """See `NetworkConfig.head_footprint`."""
    piece = min(options.head_frames_per_chunk or layout.frames, layout.frames)
    patches, specials, dim = layout.patches_per_frame, layout.special_tokens, 2 * config.dim
    pixels = patches * config.patch_size**2
    work = 0
    if "camera" in options.heads or "text" in options.heads:
        work = layout.frames * specials * dim * 4 * _READOUT_TENSORS
    head = config.depth_head if "depth" in options.heads else None
    if head is not None:
        one, two, three, four = head.out_channels
        maps = patches * (16 * one + 4 * two + three + four // 4 + 22 * head.features)
        work = max(work, 4 * piece * (maps + patches * 16 * head.features * _FUSION_TENSORS))
    return HeadFootprint(
        taps=0 if head is None else patches * sum(head.out_channels) * element_bytes,
        # Of the special tokens also a copy in the precision of the heads.
        at_end=specials * dim * (element_bytes + (4 if element_bytes < 4 else 0)),
        outputs=0 if head is None else 2 * pixels * 4,
        project=0 if head is None else piece * layout.tokens_per_frame * dim * 4 * 3,
        work=work,
    )
