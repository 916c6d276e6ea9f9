"""Operations of π³'s decoders and heads."""

from __future__ import annotations

from collections.abc import Collection

from ...attention.layout import TokenLayout
from ..flop_counts import block, linear
from .config import Pi3Config

_POSE_UNITS = 2


def head_flops(config: Pi3Config, layout: TokenLayout, heads: Collection[str]) -> dict[str, float]:
    """All decoders run whatever is asked for; their operations are told with the first head."""
    tokens, patches = layout.tokens_per_frame, layout.patches_per_frame
    inner, pixels = config.decoder_dim, config.patch_size**2
    outputs = (config.point_dim, config.confidence_dim, config.camera_dim)
    each = sum(
        linear(tokens, 2 * config.dim, inner)
        + config.decoder_depth * block(tokens, inner, 4.0)
        + linear(tokens, inner, out)
        for out in outputs
    )
    each += linear(patches, config.point_dim, 3 * pixels) + linear(patches, config.confidence_dim, pixels)
    width = config.camera_dim
    each += linear(patches * 3 * _POSE_UNITS, width, width) + linear(2, width, width) + linear(1, width, 12)
    names = [f"{head} head" for head in heads]
    return {name: layout.frames * each if i == 0 else 0.0 for i, name in enumerate(names)}
