"""Floating-point operations of VGGT-Ω's register layers and heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..flop_counts import POSE_NUMBERS, block, linear, places, pyramid

if TYPE_CHECKING:
    from .config import OmegaConfig, ReadoutConfig


def head_flops(
    config: OmegaConfig, layout: TokenLayout, heads: Collection[str], query_points: int
) -> dict[str, float]:
    """Operations by stage; pairs with a register layer are counted with the frame layers (`run_layers`)."""
    frames, specials, dim = layout.frames, layout.frames * layout.special_tokens, 2 * config.dim
    pair = frames * block(layout.tokens_per_frame, config.dim, config.mlp_ratio)
    pair += block(specials, config.dim, config.mlp_ratio)
    result = {"frame layers": len(config.register_layers) * pair, "global layers": 0.0}
    if "camera" in heads and config.camera_head is not None:
        result["camera head"] = _readout(config.camera_head, dim, specials)
        result["camera head"] += linear(frames, dim, dim // 2) + linear(frames, dim // 2, POSE_NUMBERS)
    if "text" in heads and config.text_head is not None:
        result["text head"] = _readout(config.text_head, dim, specials + 1) + 2 * linear(1, dim, dim // 2)
    if "depth" in heads and config.depth_head is not None:
        widths, features = config.depth_head.out_channels, config.depth_head.features
        patches = layout.patches_per_frame
        for tap, width in zip(config.taps, widths, strict=True):
            stage = "frame layers" if tap in config.register_layers else "global layers"
            result[stage] += frames * linear(patches, dim, width)
        values = 2 * (config.patch_size // 4) ** 2
        result["depth head"] = frames * (
            pyramid(features, widths, layout.grid) + linear(16 * patches, features, values)
        )
        rows, columns = layout.grid
        result["depth head"] += places(1, features, values, (4 * rows, 4 * columns))
    return result


def _readout(config: ReadoutConfig, dim: int, tokens: int) -> float:
    return config.depth * block(tokens, dim, config.mlp_ratio)
