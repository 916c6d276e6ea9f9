"""Memory that known cameras and depth take in a pass of Pi3X, in bytes."""

from __future__ import annotations

import dataclasses

from ...attention.layout import TokenLayout
from ..run_options import RunOptions
from .config import Pi3XConfig

# Patch tensors while poses enter: tokens and their copy, q, k and v, q and k normalised, all three turned,
# and what one of them is turned through.
_INJECT_TENSORS = 11
# Token tensors of a piece while a block of the depth encoder runs on it (as in the image encoder).
_ENCODE_TENSORS = 13
# Float32 numbers a pixel while rays or depth of a piece become tokens.
_MAP_NUMBERS = 8


@dataclasses.dataclass(frozen=True)
class KnownFootprint:
    """`held`: bytes a frame of the inputs themselves; `embedding`, `injecting`: of all frames, beside those,
    while known depth and rays, and known poses, change the tokens (the tokens themselves included)."""

    held: int = 0
    embedding: int = 0
    injecting: int = 0


def known_footprint(
    config: object, layout: TokenLayout, options: RunOptions, element_bytes: int, known: tuple[str, ...]
) -> KnownFootprint:
    """Bytes for one scene of which `known` ("poses", "intrinsics", "depth") of all frames is given."""
    if not known or not isinstance(config, Pi3XConfig):
        return KnownFootprint()
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
