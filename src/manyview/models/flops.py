"""Floating-point operations of a forward pass, stage by stage, from the sizes alone.

Counted are matrix products, convolutions and attention, two operations per multiply-add; norms,
activations, softmax, rotary positions and resizing are not (less than a percent of the operations,
though not of the time).
"""

from __future__ import annotations

from collections.abc import Collection

from ..attention.layout import TokenLayout
from ..attention.plan import Plan
from ..errors import UsageError
from .flop_counts import block, conv, encoder, linear, mlp, pyramid
from .network import NetworkConfig
from .omega.config import OmegaConfig
from .omega.flops import with_omega
from .pi3.config import Pi3Config
from .pi3.flops import head_flops
from .vggt.config import CameraHeadConfig, TrackHeadConfig

_FIELDS = {"camera": "camera_head", "depth": "depth_head", "points": "point_head", "track": "track_head"}
_HEAD_VALUES = {"depth": 2, "points": 4, "track": None}  # output channels; None returns features
_POSE_NUMBERS = 9


def forward_flops(
    config: NetworkConfig,
    layout: TokenLayout,
    plan: Plan | None = None,
    heads: Collection[str] = ("camera", "depth"),
    query_points: int = 0,
) -> dict[str, float]:
    """Operations of one pass over one scene, by the stages that `recording.mark` reports.

    The dense heads' projections of the taps run while the global layers do, and are counted there.
    `query_points` are followed by the track head. Raises UsageError for a head the network lacks or
    a plan of another depth.
    """
    plan = plan or Plan.dense(config.depth)
    if len(plan.layers) != config.depth:
        raise UsageError(
            f"the plan has {len(plan.layers)} layers, this network has {config.depth} global layers"
        )
    dim, frames, patches = config.dim, layout.frames, layout.patches_per_frame
    meeting = plan.cost(layout, dim, head_dim=dim // config.num_heads)
    result = {
        "encoder": frames * encoder(config.encoder, dim, config.patch_size, patches),
        "frame layers": config.depth * frames * block(layout.tokens_per_frame, dim, config.mlp_ratio),
        "global layers": meeting.linear_flops
        + meeting.attention_flops
        + config.depth * layout.tokens * mlp(dim, config.mlp_ratio),
    }
    if isinstance(config, Pi3Config):
        return result | head_flops(config, layout, heads)
    if isinstance(config, OmegaConfig):
        return with_omega(result, config, layout, heads)
    for head in heads:
        sizes = getattr(config, _FIELDS[head]) if head in _FIELDS else None
        if sizes is None:
            raise UsageError(f"this network has no {head} head")
        if head == "camera":
            result["camera head"] = _camera_head(sizes, 2 * dim, frames)
            continue
        result["global layers"] += frames * sum(
            linear(patches, 2 * dim, width) for width in sizes.out_channels
        )
        flops = frames * _dense_head(
            sizes.features, sizes.out_channels, _HEAD_VALUES[head], layout.grid, config.patch_size
        )
        if head == "track":
            flops += _tracker(sizes, frames, query_points)
        result[f"{head} head"] = flops
    return result


def _camera_head(config: CameraHeadConfig, dim: int, frames: int) -> float:
    embed = linear(frames, _POSE_NUMBERS, dim) + linear(frames, dim, 3 * dim)
    branch = linear(frames, dim, dim // 2) + linear(frames, dim // 2, _POSE_NUMBERS)
    return config.iterations * (embed + config.depth * block(frames, dim, config.mlp_ratio) + branch)


def _dense_head(
    features: int,
    widths: tuple[int, int, int, int],
    values: int | None,
    grid: tuple[int, int],
    patch_size: int,
) -> float:
    """One frame, from projected taps to the output."""
    patches = grid[0] * grid[1]
    total = pyramid(features, widths, grid, 2)
    if values is None:
        return total + conv(3, features, features, 64 * patches)
    pixels = patches * patch_size**2
    total += conv(3, features, features // 2, 64 * patches)
    return total + conv(3, features // 2, 32, pixels) + conv(1, 32, values, pixels)


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
