"""Memory of a forward pass before it runs: bytes by cause, from the sizes of the model and the input.

Checked against counted bytes of real passes in the tests. The unit of the trunk is one token tensor,
u = frames x tokens x width x bytes; a global layer holds six of them (tokens, normalised copy, queries,
keys, values, output) and, at layers whose features the heads take, a seventh (the frame layer's output).
"""

from __future__ import annotations

import math

from ...attention.layout import TokenLayout
from ...models.network import NetworkConfig
from ...models.run_options import RunOptions

_TRUNK_TENSORS = 7
# Token tensors of a chunk of frames while a block runs on it: hidden layer before and after its activation
# (8) beside the normalised tokens and their share of the residual; attention holds less.
_CHUNK_TENSORS = 11
_MARGIN = 1.04


def estimate_peak_bytes(
    config: NetworkConfig,
    layout: TokenLayout,
    options: RunOptions,
    element_bytes: int,
    known: tuple[str, ...] = (),
) -> int:
    """Expected peak of a pass over one scene, beside the weights.

    `element_bytes` is the size of a number in the trunk's precision; `known`: which of "poses", "intrinsics"
    and "depth" are given.
    """
    frames, tokens, dim = layout.frames, layout.tokens_per_frame, config.dim
    unit = tokens * dim * element_bytes
    pixels = layout.patches_per_frame * config.patch_size**2
    heads = config.head_footprint(layout, options, element_bytes)
    chunk = min(options.frames_per_chunk or frames, frames)
    mlp_tokens = min(options.mlp_tokens_per_chunk or frames * tokens, frames * tokens)
    hidden = mlp_tokens * dim * element_bytes * (2 * math.ceil(config.mlp_ratio) + 2)
    given = config.known_footprint(layout, options, element_bytes, known)
    held = frames * (heads.taps + 3 * pixels + given.held)
    # Temporaries of one chunk while q or k is normalised and rotated.
    attention = held + frames * unit * _TRUNK_TENSORS + 2 * chunk * unit
    # Kernels add attention's branch chunk by chunk, so that it lives beside the tokens and the tap.
    beside = 3 if options.kernels == "triton" else 2
    mlp = held + frames * unit * beside + max(hidden, heads.project)
    frame_layers = held + frames * unit + chunk * unit * _CHUNK_TENSORS + chunk * pixels * 3 * 8
    at_heads = held + frames * (heads.at_end + heads.outputs) + heads.work
    injecting = held + max(given.embedding, given.injecting)
    trunk = _MARGIN * max(attention, mlp, frame_layers, injecting)
    if options.linear_precision != "plain":  # an MLP's hidden layer on its way to codes, and products
        trunk += max(mlp_tokens, chunk * tokens) * math.ceil(config.mlp_ratio) * dim * 9
    return int(max(trunk + converted_bytes(config, options, element_bytes), _MARGIN * at_heads))


def converted_bytes(config: NetworkConfig, options: RunOptions, element_bytes: int) -> int:
    """What the trunk's weights take in a form they were not loaded in: all of them, or one at a time."""
    mlp, pairs = config.mlp_ratio, config.pairs
    largest = int(mlp * config.dim**2)
    blocks = 2 * pairs * (4 + 2 * mlp)
    if config.encoder is not None:
        blocks += config.encoder.depth * (4 + 2 * config.encoder.mlp_ratio)
    every = int(blocks * config.dim**2 * 1.01) + 3 * config.patch_size**2 * config.dim
    if options.linear_precision != "plain":  # codes of a byte, and what the making of one of them takes
        return (every if options.keep_weights else largest) + 8 * largest
    if element_bytes >= 4:
        return 0
    return (every if options.keep_weights else largest) * element_bytes
