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
from .config import NetworkConfig
from .flop_counts import block, encoder, mlp


def forward_flops(
    config: NetworkConfig,
    layout: TokenLayout,
    plan: Plan | None = None,
    heads: Collection[str] = ("camera", "depth"),
    query_points: int = 0,
) -> dict[str, float]:
    """Operations of one pass over one scene, by the stages that `recording.mark` reports.

    Args:
        config: Sizes of the network.
        layout: Frames and patches.
        plan: The attention of the global layers (None: dense).
        heads: Heads that run.
        query_points: Points that the track head follows.

    Raises:
        UsageError: A head the network lacks, or a plan of another depth.
    """
    plan = plan or Plan.dense(config.depth)
    if len(plan.layers) != config.depth:
        raise UsageError(
            f"the plan has {len(plan.layers)} layers, this network has {config.depth} global layers"
        )
    config.require_heads(heads)
    dim, frames, patches = config.dim, layout.frames, layout.patches_per_frame
    attention = plan.cost(layout, dim, head_dim=dim // config.num_heads)
    frame_blocks = config.depth - config.unpaired
    result = {
        "encoder": frames * encoder(config.encoder, dim, config.patch_size, patches),
        "frame layers": frame_blocks * frames * block(layout.tokens_per_frame, dim, config.mlp_ratio),
        "global layers": attention.linear_flops
        + attention.attention_flops
        + config.depth * layout.tokens * mlp(dim, config.mlp_ratio),
    }
    for stage, flops in config.head_flops(layout, heads, query_points).items():
        result[stage] = result.get(stage, 0.0) + flops
    return result
