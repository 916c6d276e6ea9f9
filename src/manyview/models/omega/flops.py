"""Operations of VGGT-Ω's register layers and heads."""

from __future__ import annotations

from collections.abc import Collection

from ...attention.layout import TokenLayout
from ...errors import UsageError
from ..flop_counts import block, linear, pyramid
from .config import OmegaConfig, ReadoutConfig

_POSE_NUMBERS = 9


def with_omega(
    trunk: dict[str, float], config: OmegaConfig, layout: TokenLayout, heads: Collection[str]
) -> dict[str, float]:
    """The operations of encoder and `depth` pairs, completed by register layers and heads.

    Pairs with a register layer are told with the frame layers, see `run_layers`. Raises UsageError for a
    head that the network lacks.
    """
    frames, specials, dim = layout.frames, layout.frames * layout.special_tokens, 2 * config.dim
    pair = frames * block(layout.tokens_per_frame, config.dim, config.mlp_ratio)
    pair += block(specials, config.dim, config.mlp_ratio)
    result = dict(trunk)
    result["frame layers"] += len(config.register_layers) * pair
    for head in heads:
        if head == "camera" and config.camera_head is not None:
            flops = _readout(config.camera_head, dim, specials)
            flops += linear(frames, dim, dim // 2) + linear(frames, dim // 2, _POSE_NUMBERS)
        elif head == "text" and config.text_head is not None:
            flops = _readout(config.text_head, dim, specials + 1) + 2 * linear(1, dim, dim // 2)
        elif head == "depth" and config.depth_head is not None:
            widths, features = config.depth_head.out_channels, config.depth_head.features
            patches = layout.patches_per_frame
            for tap, width in zip(config.taps, widths, strict=True):
                stage = "frame layers" if tap in config.register_layers else "global layers"
                result[stage] += frames * linear(patches, dim, width)
            values = 2 * (config.patch_size // 4) ** 2
            flops = frames * (
                pyramid(features, widths, layout.grid, 1) + linear(16 * patches, features, values)
            )
        else:
            raise UsageError(f"this network has no {head} head")
        result[f"{head} head"] = flops
    return result


def _readout(config: ReadoutConfig, dim: int, tokens: int) -> float:
    return config.depth * block(tokens, dim, config.mlp_ratio)
