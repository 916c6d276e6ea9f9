"""Memory of VGGT's heads in a forward pass, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..footprint import HeadFootprint, converted_head_bytes, dense_head_bytes
from ..part_configs import DenseHeadConfig
from ..run_options import RunOptions

if TYPE_CHECKING:
    from .config import VGGTConfig

_OUTPUT_NUMBERS = {"depth": 2, "points": 4, "track": 32}


def head_footprint(
    config: VGGTConfig, layout: TokenLayout, options: RunOptions, element_bytes: int
) -> HeadFootprint:
    """See `NetworkConfig.head_footprint`."""
    piece = min(options.head_frames_per_chunk or layout.frames, layout.frames)
    pixels = layout.patches_per_frame * config.patch_size**2
    heads = {name: _dense_config(config, name) for name in options.heads if name != "camera"}
    return HeadFootprint(
        taps=layout.patches_per_frame * sum(sum(h.out_channels) for h in heads.values()) * element_bytes,
        at_end=0,
        outputs=sum(_OUTPUT_NUMBERS[name] for name in heads) * pixels * 4,
        project=piece * layout.tokens_per_frame * 2 * config.dim * 4 * 3 if heads else 0,
        work=max(
            (
                piece * dense_head_bytes(h, layout, pixels) + converted_head_bytes(h, options)
                for h in heads.values()
            ),
            default=0,
        ),
    )


def _dense_config(config: VGGTConfig, head: str) -> DenseHeadConfig:
    if head == "track":
        assert config.track_head is not None
        return DenseHeadConfig(config.track_head.features, config.track_head.out_channels)
    found = config.depth_head if head == "depth" else config.point_head
    assert found is not None
    return found
