"""Operations of π³'s decoders and heads."""

from __future__ import annotations

from collections.abc import Collection

from ...attention.layout import TokenLayout
from ..flop_counts import block, linear
from .config import Pi3Config, Pi3XConfig

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
    if isinstance(config, Pi3XConfig):
        each += _conv_head(config, patches, config.point_dim, (2, 1))
        each += _conv_head(config, patches, config.confidence_dim, (1,))
    else:
        each += linear(patches, config.point_dim, 3 * pixels) + linear(patches, config.confidence_dim, pixels)
    width = config.camera_dim
    each += linear(patches * 3 * _POSE_UNITS, width, width) + linear(2, width, width) + linear(1, width, 12)
    names = [f"{head} head" for head in heads]
    total = layout.frames * each
    if isinstance(config, Pi3XConfig):
        total += _metric(config, layout.tokens)
    return {name: total if i == 0 else 0.0 for i, name in enumerate(names)}


def _conv_head(config: Pi3XConfig, patches: int, dim: int, outputs: tuple[int, ...]) -> float:
    """One frame: three doublings with two residual units each, then a small convolution on all pixels."""
    total, before, area = 0.0, dim, patches
    for width in config.conv_widths:
        total += linear(4 * area, before + 2, width)  # transposed: each cell makes four
        area, before = 4 * area, width
        total += linear(area, 9 * width, width) + 2 * 2 * linear(area, 9 * width, 2 * width)
    pixels = patches * config.patch_size**2
    return total + sum(
        linear(pixels, 9 * (before + 2), config.conv_last) + linear(pixels, config.conv_last, values)
        for values in outputs
    )


def _metric(config: Pi3XConfig, tokens: int) -> float:
    """The one query of a scene: what costs is projecting all tokens."""
    dim = config.metric_dim
    block_ = linear(2 * tokens, dim, dim) + linear(2, dim, dim) + 4.0 * tokens * dim + linear(8, dim, dim)
    projected = linear(tokens + 1, 2 * config.dim, dim)
    return projected + config.decoder_depth * block_ + linear(1, dim, config.metric_out + 1)
