"""What a pass cannot go below: operations, element-wise traffic, and what must be in memory at once."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import torch

from ..attention.layout import TokenLayout
from ..models.network import NetworkConfig
from ..models.run_options import RunOptions
from ..reconstruction.plan.machine import calls_per_second

# Reads and writes of one token tensor in a block with an MLP four times as wide, inputs and outputs of the
# matrix products among them: every norm, rotation, activation and residual a pass of its own; and all of
# them fused into the products and the attention around them.
EAGER_UNITS = {"encoder": 44, "trunk": 68}
FUSED_UNITS = {"encoder": 26, "trunk": 26}


def traffic_bytes(
    config: NetworkConfig, layout: TokenLayout, element_bytes: int, units: dict[str, int]
) -> float:
    """Bytes that the blocks of encoder and trunk move element-wise, weights and heads left out.

    The unit is one tensor of all tokens; an encoder's block has its own special tokens.
    """
    encoder = config.encoder
    blocks = 0.0
    if encoder is not None:
        special = 1 + encoder.registers
        blocks = units["encoder"] * encoder.depth * layout.frames * (layout.patches_per_frame + special)
    trunk = units["trunk"] * 2 * config.depth * layout.tokens
    return (blocks + trunk) * config.dim * element_bytes


def memory_floor_bytes(
    config: NetworkConfig, layout: TokenLayout, element_bytes: int, heads: Sequence[str]
) -> float:
    """Bytes a lean program holds beside the weights, all of which grows with the frames.

    Tokens, queries, keys, values and attention's output; the taps as heads read them; images in the trunk's
    precision; and the heads' outputs in single precision.
    """
    kept = config.head_footprint(layout, RunOptions(heads=tuple(heads)), element_bytes)
    pixels = layout.patches_per_frame * config.patch_size**2
    tokens = 5 * layout.tokens_per_frame * config.dim * element_bytes
    return float(layout.frames * (tokens + kept.taps + kept.outputs + 3 * pixels * element_bytes))


def measure_copy(device: torch.device, seconds: float = 0.3) -> float:
    """Bytes read and written per second while a tensor far larger than any cache is copied."""
    count = (1 << 28) if device.type == "cuda" else (1 << 26)
    source = torch.ones(count, dtype=torch.float32, device=device)
    target = torch.empty_like(source)
    return 2.0 * source.nbytes * calls_per_second(device, lambda: target.copy_(source), seconds)


def slope(frames: Sequence[int], values: Sequence[float]) -> float | None:
    """Growth per frame by least squares over all numbers of frames; None with fewer than two."""
    return statistics.linear_regression(frames, values).slope if len(set(frames)) > 1 else None
