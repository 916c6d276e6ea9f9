"""Sizes of a π³ network."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ..config import NetworkConfig, check_heads
from ..part_configs import Depth, EncoderConfig, Heads, MlpRatio, Patch, Pixels, RopeBase, Tokens, Width
from .flops import head_flops, head_flops_x
from .footprint import head_footprint, head_footprint_x, known_footprint


@dataclasses.dataclass(frozen=True)
class Pi3Config(NetworkConfig):
    """All sizes of a π³. `depth` counts pairs of one frame and one global block (published: 18).

    `decoder_*` are the sizes of the three decoders behind the trunk, `point_dim` and `camera_dim` the widths
    they hand to the heads. `image_size` is the longer side that the area of 255,000 pixels gives at 4:3.
    """

    head_flops = head_flops
    head_footprint = head_footprint

    dim: Width = 1024
    depth: Depth = 18
    num_heads: Heads = 16
    mlp_ratio: MlpRatio = 4.0
    patch_size: Patch = 14
    registers: Tokens = 5
    image_size: Pixels = 574
    rope_base: RopeBase = 100.0
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    decoder_dim: Width = 1024
    decoder_depth: Depth = 5
    decoder_heads: Heads = 16
    point_dim: Width = 1024
    confidence_dim: Width = 1024
    camera_dim: Width = 512

    def __post_init__(self) -> None:
        check_heads(self.dim, self.num_heads)
        check_heads(self.decoder_dim, self.decoder_heads)

    @property
    def special_tokens(self) -> int:
        """The registers; there is no camera token."""
        return self.registers

    @property
    def reference_frame(self) -> int | None:
        """None: all frames are equal."""
        return None

    @property
    def available_heads(self) -> tuple[str, ...]:
        """Cameras, depth and points come from the same decoders."""
        return ("camera", "depth", "points")

    @property
    def size_policy(self) -> Literal["area"]:
        """All images of one size of so many pixels."""
        return "area"

    @property
    def pixel_limit(self) -> int:
        """Most pixels of an image: 255,000 as published, in proportion for weights of another image size."""
        return round(255_000 * (self.image_size / 574) ** 2)


@dataclasses.dataclass(frozen=True)
class Pi3XConfig(Pi3Config):
    """All sizes of a Pi3X: `conv_*` of the convolutional heads, `metric_*` of the decoder of the scale.

    `optional_inputs`: whether the branch for known cameras and depth is there.
    """

    head_flops = head_flops_x
    head_footprint = head_footprint_x
    known_footprint = known_footprint

    conv_widths: tuple[Width, Width, Width] = (256, 128, 64)
    conv_last: Width = 32
    metric_dim: Width = 512
    metric_heads: Heads = 8
    metric_out: Width = 512
    optional_inputs: bool = True

    @property
    def why_no_priors(self) -> str | None:
        """Weights may lack the branch."""
        if self.optional_inputs:
            return None
        return "was saved without its branch for known cameras and depth: take the published weights"


PI3 = Pi3Config()
PI3X = Pi3XConfig()
