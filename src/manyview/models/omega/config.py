"""Sizes of a VGGT-Ω network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar, Literal

from ..config import NetworkConfig, check_heads
from ..part_configs import (
    DenseHeadConfig,
    Depth,
    EncoderConfig,
    Heads,
    Layer,
    MlpRatio,
    Patch,
    Pixels,
    RopeBase,
    Taps,
    Tokens,
    Width,
)
from .flops import head_flops
from .footprint import head_footprint

REGISTER_LAYERS = (2, 6, 9, 14, 20)
"""Pairs of the published network whose inter-frame attention is among special tokens only."""


@dataclasses.dataclass(frozen=True)
class ReadoutConfig:
    """Plain blocks that read the special tokens of all frames."""

    depth: Depth = 4
    num_heads: Heads = 16
    mlp_ratio: MlpRatio = 4.0


@dataclasses.dataclass(frozen=True)
class OmegaConfig(NetworkConfig):
    """All sizes of a VGGT-Ω.

    `pairs` counts pairs of one frame and one inter-frame block; in those of `register_layers` only the
    camera and register tokens take part. A plan covers the others, in order (`depth`). `taps` are the pairs
    that the dense head reads. `text_head` belongs to the weights with text alignment.
    """

    head_fields: ClassVar[Mapping[str, str]] = {
        "camera": "camera_head",
        "depth": "depth_head",
        "text": "text_head",
    }
    head_flops = head_flops
    head_footprint = head_footprint

    dim: Width = 1024
    pairs: Depth = 24
    register_layers: tuple[Layer, ...] = REGISTER_LAYERS
    num_heads: Heads = 16
    mlp_ratio: MlpRatio = 4.0
    patch_size: Patch = 16
    registers: Tokens = 16
    image_size: Pixels = 512
    rope_base: RopeBase = 100.0
    taps: Taps = (4, 11, 17, 23)
    encoder: EncoderConfig = dataclasses.field(default_factory=EncoderConfig)
    camera_head: ReadoutConfig | None = dataclasses.field(default_factory=ReadoutConfig)
    depth_head: DenseHeadConfig | None = dataclasses.field(default_factory=DenseHeadConfig)
    text_head: ReadoutConfig | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", tuple(self.taps))
        object.__setattr__(self, "register_layers", tuple(sorted(set(self.register_layers))))
        check_heads(self.dim, self.num_heads)
        if len(self.taps) != 4 or any(not 0 <= tap < self.pairs for tap in self.taps):
            raise ValueError(f"taps {self.taps} must be four pairs below {self.pairs}")
        outside = [layer for layer in self.register_layers if not 0 <= layer < self.pairs]
        if outside or len(self.register_layers) >= self.pairs:
            raise ValueError(
                f"register layers {self.register_layers} must be some, not all, of {self.pairs} pairs"
            )
        if self.patch_size % 4:
            raise ValueError(f"a patch must be a multiple of 4 pixels, not {self.patch_size}")

    @property
    def depth(self) -> int:
        """Layers of a plan: pairs with attention among all tokens (published: 19 of 24)."""
        return self.pairs - len(self.register_layers)

    @property
    def special_tokens(self) -> int:
        """One camera token and the registers."""
        return 1 + self.registers

    @property
    def size_policy(self) -> Literal["balanced"]:
        """Images of one area, each in its own shape."""
        return "balanced"


OMEGA_512 = OmegaConfig()
OMEGA_256_TEXT = OmegaConfig(image_size=256, text_head=ReadoutConfig())
