"""What heads hold and need in a forward pass, in bytes, by network."""

from __future__ import annotations

import dataclasses

from ..attention.layout import TokenLayout
from .network import NetworkConfig
from .omega.config import OmegaConfig
from .part_configs import DenseHeadConfig
from .pi3.config import Pi3Config, Pi3XConfig
from .run_options import RunOptions
from .vggt.config import VGGTConfig


@dataclasses.dataclass(frozen=True)
class HeadFootprint:
    """`taps`, `at_end`, `outputs`: bytes a frame that are kept while the trunk runs, of the trunk's end while
    heads run, and as results. `project`, `work`: temporaries while a tap is read, and while heads run."""

    taps: int
    at_end: int
    outputs: int
    project: int
    work: int


def head_footprint(
    config: NetworkConfig, layout: TokenLayout, options: RunOptions, element_bytes: int
) -> HeadFootprint:
    """Bytes for one scene; `element_bytes` is the size of a number in the trunk's precision."""
    piece = min(options.head_frames_per_chunk or layout.frames, layout.frames)
    pixels = layout.patches_per_frame * config.patch_size**2
    if isinstance(config, Pi3Config):
        return _pi3(config, layout, options, element_bytes, piece, pixels)
    if isinstance(config, OmegaConfig):
        return _omega(config, layout, options, element_bytes, piece)
    assert isinstance(config, VGGTConfig)
    heads = {name: _dense_config(config, name) for name in options.heads if name != "camera"}
    return HeadFootprint(
        taps=layout.patches_per_frame * sum(sum(h.out_channels) for h in heads.values()) * element_bytes,
        at_end=0,
        outputs=sum(_OUTPUT_NUMBERS[name] for name in heads) * pixels * 4,
        project=piece * layout.tokens_per_frame * 2 * config.dim * 4 * 3 if heads else 0,
        work=max(
            (piece * _dense_bytes(h, layout, pixels) + _turned_bytes(h, options) for h in heads.values()),
            default=0,
        ),
    )


_OUTPUT_NUMBERS = {"depth": 2, "points": 4, "track": 32}
# Decoder tensors of a piece while a block runs: hidden layers (8), normalised tokens, residual and the input
# twice as wide.
_DECODER_TENSORS = 13
# Numbers a pixel while points are made and a focal length is fitted to them.
_FIT_NUMBERS = 16
_MAPS = 230
# Special tokens of all frames while a block of VGGT-Ω's camera or text head runs: as in a decoder.
_READOUT_TENSORS = 11
# Finest maps beside all four while VGGT-Ω's last fusion runs.
_FUSION_TENSORS = 5


def _turned_bytes(head: DenseHeadConfig, options: RunOptions) -> int:
    """Weights of a head's convolutions once more, where they run in another order or precision."""
    if not options.channels_last and options.head_dtype is None:
        return 0
    finest, second, _, coarsest = head.out_channels
    resizing = 16 * finest**2 + 4 * second**2 + 9 * coarsest**2
    # Four maps to one width, seven residual units of two convolutions, the last convolutions.
    return 4 * (resizing + 9 * head.features * sum(head.out_channels) + 9 * 15 * head.features**2)


def _pi3(
    config: Pi3Config,
    layout: TokenLayout,
    options: RunOptions,
    element_bytes: int,
    piece: int,
    pixels: int,
) -> HeadFootprint:
    tokens = layout.tokens_per_frame
    decoders = tokens * (_DECODER_TENSORS * config.decoder_dim + 3 * config.point_dim)
    values = tokens * 2 * config.point_dim + _FIT_NUMBERS * pixels
    metric = 0
    if isinstance(config, Pi3XConfig):
        # The finest stage of the convolutional head, and its maps at full size; then the query's context.
        values = max(64 * layout.patches_per_frame * 9 * config.conv_widths[-1], _MAPS * pixels)
        copied = 2 * config.dim if element_bytes < 4 else 0
        metric = layout.frames * tokens * (copied + 5 * config.metric_dim) * 4
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


def _omega(
    config: OmegaConfig, layout: TokenLayout, options: RunOptions, element_bytes: int, piece: int
) -> HeadFootprint:
    patches, specials, dim = layout.patches_per_frame, layout.special_tokens, 2 * config.dim
    pixels = patches * config.patch_size**2
    work = 0
    if "camera" in options.heads or "text" in options.heads:
        work = layout.frames * specials * dim * 4 * _READOUT_TENSORS
    head = config.depth_head if "depth" in options.heads else None
    if head is not None:
        one, two, three, four = head.out_channels
        maps = patches * (16 * one + 4 * two + three + four // 4 + 22 * head.features)
        work = max(work, 4 * piece * (maps + patches * 16 * head.features * _FUSION_TENSORS))
    return HeadFootprint(
        taps=0 if head is None else patches * sum(head.out_channels) * element_bytes,
        # Of the special tokens also a copy in the precision of the heads.
        at_end=specials * dim * (element_bytes + (4 if element_bytes < 4 else 0)),
        outputs=0 if head is None else 2 * pixels * 4,
        project=0 if head is None else piece * layout.tokens_per_frame * dim * 4 * 3,
        work=work,
    )


def _dense_config(config: VGGTConfig, head: str) -> DenseHeadConfig:
    if head == "track":
        assert config.track_head is not None
        return DenseHeadConfig(config.track_head.features, config.track_head.out_channels)
    found = config.depth_head if head == "depth" else config.point_head
    assert found is not None
    return found


def _dense_bytes(head: DenseHeadConfig, layout: TokenLayout, pixels: int) -> int:
    """Largest work of a dense head on one frame: the finest fusion, or the output at full size."""
    patches, features = layout.patches_per_frame, head.features
    fusion = patches * (64 * features * 2 + 16 * features * 3 + 16 * head.out_channels[0] * 2)
    output = pixels * (features + 8) + patches * 32 * features
    return int(1.1 * 4 * max(fusion, output))
