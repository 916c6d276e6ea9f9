"""Sizes of a VGGT: the public 1.26-billion-parameter model and small siblings are the same class."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from ..config import NetworkConfig, check_heads
from ..part_configs import (
    DenseHeadConfig,
    Depth,
    EncoderConfig,
    Heads,
    Iterations,
    MlpRatio,
    Patch,
    Pixels,
    RopeBase,
    Taps,
    Tokens,
    Width,
    Widths,
)
from .flops import head_flops
from .footprint import head_footprint


@dataclasses.dataclass(frozen=True)
class CameraHeadConfig:
    """Iterative camera head: `iterations` passes of `depth` blocks with shared weights."""

    depth: Depth = 4
    num_heads: Heads = 16
    iterations: Iterations = 4
    mlp_ratio: MlpRatio = 4.0


@dataclasses.dataclass(frozen=True)
class TrackHeadConfig:
    """Point tracker on DPT features at half resolution (VGGT, section 3.3)."""

    features: Width = 128
    out_channels: Widths = (256, 512, 1024, 1024)
    hidden_size: Width = 384
    corr_levels: Iterations = 7
    corr_radius: Iterations = 4
    stride: Iterations = 2
    down_ratio: Iterations = 2
    iterations: Iterations = 4
    max_scale: Pixels = 518
    time_depth: Depth = 6
    space_depth: Depth = 6
    virtual_tracks: Tokens = 64
    num_heads: Heads = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "out_channels", tuple(self.out_channels))


@dataclasses.dataclass(frozen=True)
class VGGTConfig(NetworkConfig):
    """All sizes of a VGGT. `encoder=None` stands for a plain patch convolution.

    `depth` counts pairs of one frame and one global block; `taps` are the pairs whose outputs the
    dense heads read (zero-based); `image_size` is the longer side the weights were made for.
    """

    head_fields: ClassVar[Mapping[str, str]] = {
        "camera": "camera_head",
        "depth": "depth_head",
        "points": "point_head",
        "track": "track_head",
    }
    head_flops = head_flops
    head_footprint = head_footprint

    dim: Width = 1024
    depth: Depth = 24
    num_heads: Heads = 16
    mlp_ratio: MlpRatio = 4.0
    patch_size: Patch = 14
    registers: Tokens = 4
    image_size: Pixels = 518
    rope_base: RopeBase = 100.0
    taps: Taps = (4, 11, 17, 23)
    encoder: EncoderConfig | None = dataclasses.field(default_factory=EncoderConfig)
    camera_head: CameraHeadConfig | None = CameraHeadConfig()
    depth_head: DenseHeadConfig | None = dataclasses.field(default_factory=DenseHeadConfig)
    point_head: DenseHeadConfig | None = dataclasses.field(default_factory=DenseHeadConfig)
    track_head: TrackHeadConfig | None = TrackHeadConfig()

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", tuple(self.taps))
        check_heads(self.dim, self.num_heads)
        if len(self.taps) != 4 or any(not 0 <= tap < self.depth for tap in self.taps):
            raise ValueError(f"taps {self.taps} must be four layers below the depth {self.depth}")

    @property
    def special_tokens(self) -> int:
        """One camera token and the registers."""
        return 1 + self.registers

    @property
    def camera_memory_bytes(self) -> int:
        """Every pass of the camera head's blocks keeps a key and a value, in float32."""
        head = self.camera_head
        return 0 if head is None else head.depth * head.iterations * 2 * (2 * self.dim) * 4


VGGT_1B = VGGTConfig()
