"""Floating-point operations of π³'s decoders and heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..flop_counts import block, linear

if TYPE_CHECKING:
    from .config import Pi3Config, Pi3XConfig

_POSE_UNITS = 2


def head_flops(
    config: Pi3Config, layout: TokenLayout, heads: Collection[str], query_points: int
) -> dict[str, float]:
    """Operations by stage: all decoders run whatever is asked for, and are counted with the first head."""
    patches, pixels = layout.patches_per_frame, config.patch_size**2
    each = _decoders(config, layout) + _pose_head(config, patches)
    each += linear(patches, config.point_dim, 3 * pixels) + linear(patches, config.confidence_dim, pixels)
    return _with_first(heads, layout.frames * each)


def head_flops_x(
    config: Pi3XConfig, layout: TokenLayout, heads: Collection[str], query_points: int
) -> dict[str, float]:
    """`head_flops` of Pi3X, with its convolutional heads and the query for the metric scale."""
    patches = layout.patches_per_frame
    each = _decoders(config, layout) + _pose_head(config, patches)
    each += _conv_head(config, patches, config.point_dim, (2, 1))
    each += _conv_head(config, patches, config.confidence_dim, (1,))
    return _with_first(heads, layout.frames * each + _metric(config, layout.tokens))


def _with_first(heads: Collection[str], total: float) -> dict[str, float]:
    return {f"{head} head": total if i == 0 else 0.0 for i, head in enumerate(heads)}


def _decoders(config: Pi3Config, layout: TokenLayout) -> float:
    """One frame."""
    tokens, inner = layout.tokens_per_frame, config.decoder_dim
    return sum(
        linear(tokens, 2 * config.dim, inner)
        + config.decoder_depth * block(tokens, inner, 4.0)
        + linear(tokens, inner, out)
        for out in (config.point_dim, config.confidence_dim, config.camera_dim)
    )


def _pose_head(config: Pi3Config, patches: int) -> float:
    """One frame."""
    width = config.camera_dim
    return linear(patches * 3 * _POSE_UNITS, width, width) + linear(2, width, width) + linear(1, width, 12)


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
