"""Memory of VGGT's heads in a forward pass, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..footprint import HeadFootprint
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
            (piece * _dense_bytes(h, layout, pixels) + _converted_bytes(h, options) for h in heads.values()),
            default=0,
        ),
    )


def _converted_bytes(head: DenseHeadConfig, options: RunOptions) -> int:
    """Weights of a head's convolutions once more, where they run in another order or precision."""
    if not options.channels_last and options.head_dtype is None:
        return 0
    finest, second, _, coarsest = head.out_channels
    resizing = 16 * finest**2 + 4 * second**2 + 9 * coarsest**2
    # Four maps to one width, seven residual units of two convolutions, the last convolutions.
    return 4 * (resizing + 9 * head.features * sum(head.out_channels) + 9 * 15 * head.features**2)


def _dense_config(config: VGGTConfig, head: str) -> DenseHeadConfig:
    if head == "track":
        assert config.track_head is not None
        return DenseHeadConfig(config.track_head.features, config.track_head.out_channels)
    found = config.depth_head if head == "depth" else config.point_head
    assert found is not None
    return found


def _dense_bytes(head: DenseHeadConfig, layout: TokenLayout, pixels: int) -> int:
    """Largest work of a dense head on one frame: the finest fusion, or the output at full size."""
    patches, features = layout.patches_per_frame, head.features
    one, two, three, four = head.out_channels
    # The four maps as they came, and at one width; the finest twice more, at twice its size twice.
    maps = 16 * one + 4 * two + three + four // 4
    fusion = patches * (maps + 22 * features + 2 * 16 * features + 2 * 64 * features)
    output = pixels * (features // 2 + 2 * 32 + 6) + patches * 32 * features
    return 4 * max(fusion, output)
