"""Floating-point operations of VGGT's heads."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..flop_counts import POSE_NUMBERS, block, dense_head, linear, mlp, places

if TYPE_CHECKING:
    from .config import CameraHeadConfig, TrackHeadConfig, VGGTConfig

_OUTPUT_CHANNELS = {"depth": 2, "points": 4, "track": None}  # None: features


def head_flops(
    config: VGGTConfig, layout: TokenLayout, heads: Collection[str], query_points: int
) -> dict[str, float]:
    """Operations by stage; the dense heads' projections run, and are counted, with the global layers."""
    dim, frames = 2 * config.dim, layout.frames
    result = {"global layers": 0.0}
    for head in heads:
        sizes = getattr(config, config.head_fields[head])
        if head == "camera":
            result["camera head"] = _camera_head(sizes, dim, frames)
            continue
        result["global layers"] += frames * sum(
            linear(layout.patches_per_frame, dim, width) for width in sizes.out_channels
        )
        flops = frames * dense_head(sizes, _OUTPUT_CHANNELS[head], layout.grid, config.patch_size)
        if _OUTPUT_CHANNELS[head] is not None:
            rows, columns = (side * config.patch_size for side in layout.grid)
            flops += places(3, sizes.features // 2, 32, (rows, columns))
        if head == "track":
            flops += _tracker(sizes, frames, query_points)
        result[f"{head} head"] = flops
    return result


def _camera_head(config: CameraHeadConfig, dim: int, frames: int) -> float:
    embed = linear(frames, POSE_NUMBERS, dim) + linear(frames, dim, 3 * dim)
    branch = linear(frames, dim, dim // 2) + linear(frames, dim // 2, POSE_NUMBERS)
    return config.iterations * (embed + config.depth * block(frames, dim, config.mlp_ratio) + branch)


def _tracker(config: TrackHeadConfig, frames: int, points: int) -> float:
    """All iterations for `points` tracks over all frames."""
    features, hidden, virtual = config.features, config.hidden_size, config.virtual_tracks
    tracked, window = frames * points, config.corr_levels * (2 * config.corr_radius + 1) ** 2
    correlation = linear(tracked, window, features)
    correlation += linear(tracked, window, hidden) + linear(tracked, hidden, features)
    transform = linear(tracked, 3 * features + 4, hidden) + linear(tracked, hidden, features + 2)
    over_time = (points + virtual) * block(frames, hidden, 4.0)
    space = (
        _cross_block(virtual, points, hidden)
        + block(virtual, hidden, 4.0)
        + _cross_block(points, virtual, hidden)
    )
    update = linear(tracked, features, features)
    per_iteration = (
        correlation + transform + config.time_depth * over_time + config.space_depth * frames * space + update
    )
    return config.iterations * per_iteration + 2 * linear(tracked, features, 1)


def _cross_block(queries: int, keys: int, dim: int) -> float:
    projections = linear(2 * queries, dim, dim) + linear(2 * keys, dim, dim)
    return projections + 4.0 * queries * keys * dim + queries * mlp(dim, 4.0)
