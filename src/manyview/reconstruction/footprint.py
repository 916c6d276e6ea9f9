"""Memory of a forward pass before it runs: bytes by cause, from the sizes of the model and the input.

Checked against counted bytes of real passes in the tests. The unit of the trunk is one token tensor,
u = frames x tokens x width x bytes; a global layer holds six of them (tokens, normalised copy, queries,
keys, values, output) and, at tapped layers, a seventh (the frame layer's output).
"""

from __future__ import annotations

import math

from ..attention.layout import TokenLayout
from ..models.config import DenseHeadConfig, VGGTConfig
from ..models.run_options import RunOptions

_TRUNK_TENSORS = 7
# Token tensors of a piece while a block runs on it: hidden layer before and after its activation
# (8) beside the normalised tokens and their share of the residual; attention holds less.
_PIECE_TENSORS = 11
_MARGIN = 1.04


def estimate_peak_bytes(
    config: VGGTConfig, layout: TokenLayout, options: RunOptions, element_bytes: int
) -> int:
    """Expected peak of a pass over one scene, beside the weights.

    `element_bytes` is the size of a number in the trunk's precision.
    """
    frames, tokens, dim = layout.frames, layout.tokens_per_frame, config.dim
    unit = tokens * dim * element_bytes
    pixels = layout.patches_per_frame * config.patch_size**2
    heads = {name: _dense_config(config, name) for name in options.heads if name != "camera"}
    taps = sum(layout.patches_per_frame * sum(h.out_channels) * element_bytes for h in heads.values())
    images = 3 * pixels
    piece = min(options.frame_piece or frames, frames)
    head_piece = min(options.head_piece or frames, frames)
    mlp_tokens = min(options.mlp_piece or frames * tokens, frames * tokens)
    hidden = mlp_tokens * dim * element_bytes * (2 * math.ceil(config.mlp_ratio) + 2)
    project = head_piece * tokens * 2 * dim * 4 * 3 if heads else 0
    held = frames * (taps + images)
    # Temporaries of one piece while q or k is normalised and turned.
    meeting = held + frames * unit * _TRUNK_TENSORS + 2 * piece * unit
    passing = held + frames * unit * 2 + max(hidden, project)
    framewise = held + frames * unit + piece * unit * _PIECE_TENSORS + piece * pixels * 3 * 8
    outputs = sum(_output_numbers(name) for name in heads) * pixels * 4
    head_work = max((head_piece * _head_bytes(h, layout, pixels) for h in heads.values()), default=0)
    heading = held + frames * outputs + head_work
    # Weights are float32; a layer that runs in less casts its own while it runs.
    cast = int(config.mlp_ratio * dim**2) * element_bytes if element_bytes < 4 else 0
    peak = _MARGIN * max(meeting, passing, framewise, heading) + cast
    return int(peak)


def _dense_config(config: VGGTConfig, head: str) -> DenseHeadConfig:
    if head == "track":
        assert config.track_head is not None
        return DenseHeadConfig(config.track_head.features, config.track_head.out_channels)
    found = config.depth_head if head == "depth" else config.point_head
    assert found is not None
    return found


def _output_numbers(head: str) -> int:
    return {"depth": 2, "points": 4, "track": 32}[head]


def _head_bytes(head: DenseHeadConfig, layout: TokenLayout, pixels: int) -> int:
    """Largest work of a dense head on one frame: the finest fusion, or the output at full size."""
    patches, features = layout.patches_per_frame, head.features
    fusion = patches * (64 * features * 2 + 16 * features * 3 + 16 * head.out_channels[0] * 2)
    output = pixels * (features + 8) + patches * 32 * features
    return int(1.1 * 4 * max(fusion, output))
