"""Memory of π³'s heads, and of known cameras and depth in Pi3X, in bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...attention.layout import TokenLayout
from ..footprint import HeadFootprint, KnownFootprint
from ..run_options import RunOptions

if TYPE_CHECKING:
    from .config import Pi3Config, Pi3XConfig

# Decoder tensors of a piece while a block runs: hidden layers (8), normalised tokens, residual and the input
# twice as wide.
_DECODER_TENSORS = 13
# Numbers a pixel while points are made and a focal length is fitted to them.
_FIT_NUMBERS = 16
_MAPS = 230
# Patch tensors while poses enter: tokens and their copy, q, k and v, q and k normalised, all three turned,
# and what one of them is turned through.
_INJECT_TENSORS = 11
# Token tensors of a piece while a block of the depth encoder runs on it (as in the image encoder).
_ENCODE_TENSORS = 13
# Float32 numbers a pixel while rays or depth of a piece become tokens.
_MAP_NUMBERS = 8


def head_footprint(
    config: Pi3Config, layout: TokenLayout, options: RunOptions, element_bytes: int
) -> HeadFootprint:
    """See `NetworkConfig.head_footprint`."""
    pixels = layout.patches_per_frame * config.patch_size**2
    values = layout.tokens_per_frame * 2 * config.point_dim + _FIT_NUMBERS * pixels
    return _footprint(config, layout, options, element_bytes, values, 0)


def head_footprint_x(
    config: Pi3XConfig, layout: TokenLayout, options: RunOptions, element_bytes: int
) -> HeadFootprint:
    """`head_footprint` of Pi3X, with its convolutional heads and the query for the metric scale."""
    patches = layout.patches_per_frame
    # The finest stage of the convolutional head, and its maps at full size; then the query's context.
    values = max(64 * patches * 9 * config.conv_widths[-1], _MAPS * patches * config.patch_size**2)
    copied = 2 * config.dim if element_bytes < 4 else 0
    metric = layout.tokens * (copied + 5 * config.metric_dim) * 4
    return _footprint(config, layout, options, element_bytes, values, metric)


def _footprint(
    config: Pi3Config, layout: TokenLayout, options: RunOptions, element_bytes: int, values: int, metric: int
) -> HeadFootprint:
    """`values`: numbers of a frame while pixels are made; `metric`: bytes while the scale is found."""
    piece = min(options.head_frames_per_chunk or layout.frames, layout.frames)
    tokens, pixels = layout.tokens_per_frame, layout.patches_per_frame * config.patch_size**2
    decoders = tokens * (_DECODER_TENSORS * config.decoder_dim + 3 * config.point_dim)
    outputs = 5 + (4 if "points" in options.heads else 0)
    # Heads that run on all frames at once have no results beside them.
    beside = 0 if piece == layout.frames else outputs
    return HeadFootprint(
        taps=0,
        at_end=2 * tokens * config.dim * element_bytes,
        outputs=beside * pixels * 4,
        project=0,
        # The scale is found before there are any results.
        work=max(piece * 4 * max(decoders, values), metric - layout.frames * beside * pixels * 4),
    )


def known_footprint(
    config: Pi3XConfig, layout: TokenLayout, options: RunOptions, element_bytes: int, known: tuple[str, ...]
) -> KnownFootprint:
    """Bytes for one scene of which `known` ("poses", "intrinsics", "depth") of all frames is given."""
    pixels = layout.patches_per_frame * config.patch_size**2
    tokens = layout.frames * layout.tokens_per_frame * config.dim * element_bytes
    patches = layout.frames * layout.patches_per_frame * config.dim * element_bytes
    piece = min(options.frames_per_chunk or layout.frames, layout.frames)
    share = piece * layout.tokens_per_frame * config.dim * element_bytes
    embedding = injecting = 0
    if "depth" in known or "intrinsics" in known:
        encode = _ENCODE_TENSORS if "depth" in known else 2
        embedding = tokens + encode * share + piece * pixels * _MAP_NUMBERS * 4
    if "poses" in known:
        mlp = min(options.mlp_tokens_per_chunk or layout.tokens, layout.tokens) * config.dim * element_bytes
        injecting = tokens + max(_INJECT_TENSORS * patches, 4 * patches + 10 * mlp)
    return KnownFootprint(4 * pixels if "depth" in known else 0, embedding, injecting)
