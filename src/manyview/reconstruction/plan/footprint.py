"""Memory of a forward pass before it runs: bytes by cause, from the sizes of the model and the input.

Checked against counted bytes of real passes in the tests, and against the memory of the process by
`python -m tools.results.memory`. The unit of the trunk is one token tensor, frames x tokens x width x bytes.
"""

from __future__ import annotations

import math

from ...attention.layout import TokenLayout
from ...attention.softmax.bf16_cpu import SCRATCH, scratch_bytes
from ...models.network import NetworkConfig
from ...models.run_options import RunOptions

# Token tensors of attention: normalised input, queries, keys, values, output.
_ATTENTION = 5
# Beside the tokens while a piece's q or k is normalised and rotated.
_ROTATING = 3
# Float32 images of a piece, twice, while they are normalised.
_NORMALISING = 2 * 3 * 4
_MARGIN = 1.02


def estimate_peak_bytes(
    config: NetworkConfig,
    layout: TokenLayout,
    options: RunOptions,
    element_bytes: int,
    known: tuple[str, ...] = (),
    *,
    products: bool = False,
    keys: float = 1.0,
    working: int = 0,
    joined: int = 0,
    encoder_only: bool = False,
    shared: bool = False,
) -> int:
    """Expected peak of a pass over one scene, beside the weights.

    `element_bytes` is the size of a number in the trunk's precision; `known`: which of "poses", "intrinsics"
    and "depth" are given; `products`: attention is matrix products, with copies of its inputs
    (`bf16_cpu`); `keys`: the share of a scene's tokens that are keys of a global layer at once; `working`:
    what its attention takes besides (`Part.working_bytes`); `joined`: what it holds of other ranks;
    `encoder_only`: nothing runs after it; `shared`: weights are converted once for several passes.
    """
    frames, tokens, dim = layout.frames, layout.tokens_per_frame, config.dim
    unit = tokens * dim * element_bytes
    pixels = layout.patches_per_frame * config.patch_size**2
    heads = config.head_footprint(layout, options, element_bytes)
    chunk = min(options.frames_per_chunk or frames, frames)
    whole = options.mlp_tokens_per_chunk is None or options.mlp_tokens_per_chunk >= frames * tokens
    mlp_tokens = frames * tokens if whole else options.mlp_tokens_per_chunk or 0
    # Normalised tokens, and the hidden layer before and after its activation.
    in_mlp = 1 + config.mlp_numbers
    hidden = mlp_tokens * dim * element_bytes * in_mlp
    given = config.known_footprint(layout, options, element_bytes, known)
    held = frames * (heads.taps + 3 * pixels + given.held)
    copies, logits = (SCRATCH, scratch_bytes()) if products else (0.0, 0)
    # Of a global layer: tokens and the frame layer's output, then attention's own.
    attention = held + unit * (frames * (2 + _ATTENTION) + _ROTATING * chunk)
    attention += max(int(frames * unit * keys * copies) + logits, working) + joined
    # Kernels add attention's branch chunk by chunk, so that it lives beside the tokens and the tap.
    beside = 2 if options.kernels == "plain" else 3
    mlp = held + frames * unit * beside + max(hidden, heads.project)
    in_block = max(in_mlp, _ATTENTION + _ROTATING, _ATTENTION + copies)
    frame_layers = held + unit * (frames + chunk * in_block) + logits
    # A piece's patches and tokens beside those of all frames, and its images.
    encoder = held + unit * (frames + chunk * (2 + in_block)) + logits + chunk * 3 * pixels * element_bytes
    normalising = held + frames * unit + chunk * pixels * (_NORMALISING + 3 * (element_bytes % 4))
    encoding, weights = converted_bytes(config, options, element_bytes, frames, shared)
    encoder_peak = int(_MARGIN * max(encoder, normalising)) + encoding
    if encoder_only:
        return encoder_peak
    at_heads = held + frames * (heads.at_end + heads.outputs) + heads.work
    injecting = held + max(given.embedding, given.injecting)
    layers = _MARGIN * max(attention, mlp, frame_layers, injecting)
    if options.linear_precision != "plain":  # an MLP's hidden layer on its way to codes, and products
        codes = max(mlp_tokens, chunk * tokens) * math.ceil(config.mlp_ratio) * dim * 9
        layers, encoder_peak = layers + codes, encoder_peak + codes
    return int(max(layers + weights, encoder_peak, _MARGIN * at_heads))


def converted_bytes(
    config: NetworkConfig, options: RunOptions, element_bytes: int, frames: int, shared: bool = False
) -> tuple[int, int]:
    """What weights take in a form they were not loaded in, while the encoder and while the layers run.

    A block's are given back after it, unless several pieces of the `frames` or passes (`shared`) need them.
    """
    if options.linear_precision == "plain" and element_bytes >= 4:
        return 0, 0
    largest = int(config.mlp_ratio * config.dim**2)
    # Codes of a byte, and what the making of one of them takes.
    size, making = (element_bytes, 0) if options.linear_precision == "plain" else (1, 8 * largest)
    if not options.keep_weights:
        return largest * size + making, largest * size + making
    block = int((4 + 2 * config.mlp_ratio) * config.dim**2 * 1.01)
    layers = (2 * config.pairs - config.unpaired) * block
    encoder = 3 * config.patch_size**2 * config.dim
    pieces = (options.frames_per_chunk or frames) < frames
    if config.encoder is not None:
        each = int((4 + 2 * config.encoder.mlp_ratio) * config.dim**2 * 1.01)
        encoder += each * (config.encoder.depth if shared or pieces else 1)
    return encoder * size + making, (encoder + layers if shared else block) * size + making
