"""Sizes of a VGGT: the public 1.26-billion-parameter model and small siblings are the same class."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

from ..part_configs import DenseHeadConfig, EncoderConfig


@dataclasses.dataclass(frozen=True)
class CameraHeadConfig:
    """Iterative camera head: `iterations` passes of `depth` blocks with shared weights."""

    depth: int = 4
    num_heads: int = 16
    iterations: int = 4
    mlp_ratio: float = 4.0


@dataclasses.dataclass(frozen=True)
class TrackHeadConfig:
    """Point tracker on DPT features at half resolution (VGGT, section 3.3)."""

    features: int = 128
    out_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)
    hidden_size: int = 384
    corr_levels: int = 7
    corr_radius: int = 4
    stride: int = 2
    down_ratio: int = 2
    iterations: int = 4
    max_scale: int = 518
    time_depth: int = 6
    space_depth: int = 6
    virtual_tracks: int = 64
    num_heads: int = 8

    def __post_init__(self) -> None:
        object.__setattr__(self, "out_channels", tuple(self.out_channels))


@dataclasses.dataclass(frozen=True)
class VGGTConfig:
    """All sizes of a VGGT. `encoder=None` stands for a plain patch convolution.

    `depth` counts pairs of one frame and one global block; `taps` are the pairs whose outputs the
    dense heads read (zero-based); `image_size` is the longer side the weights were made for.
    """

    dim: int = 1024
    depth: int = 24
    num_heads: int = 16
    mlp_ratio: float = 4.0
    patch_size: int = 14
    registers: int = 4
    image_size: int = 518
    rope_base: float = 100.0
    taps: tuple[int, int, int, int] = (4, 11, 17, 23)
    encoder: EncoderConfig | None = dataclasses.field(default_factory=EncoderConfig)
    camera_head: CameraHeadConfig | None = CameraHeadConfig()
    depth_head: DenseHeadConfig | None = dataclasses.field(default_factory=DenseHeadConfig)
    point_head: DenseHeadConfig | None = dataclasses.field(default_factory=DenseHeadConfig)
    track_head: TrackHeadConfig | None = TrackHeadConfig()

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", tuple(self.taps))
        if self.dim % self.num_heads or (self.dim // self.num_heads) % 4:
            raise ValueError(
                f"width {self.dim} does not split into {self.num_heads} heads of a multiple of 4"
            )
        if len(self.taps) != 4 or any(not 0 <= tap < self.depth for tap in self.taps):
            raise ValueError(f"taps {self.taps} must be four layers below the depth {self.depth}")

    @property
    def pairs(self) -> int:
        """All tokens meet in the global block of every pair."""
        return self.depth

    @property
    def special_tokens(self) -> int:
        """One camera token and the registers."""
        return 1 + self.registers

    @property
    def reference_frame(self) -> int | None:
        """The first frame is the world."""
        return 0

    @property
    def size_policy(self) -> Literal["fit"]:
        """How pictures become images where the user does not say: whole, longer side `image_size`."""
        return "fit"

    @property
    def pixel_limit(self) -> int | None:
        """None: the longer side says how large images are, not their area."""
        return None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> VGGTConfig:
        parts: dict[str, Any] = dict(data)
        for name, kind in _PARTS.items():
            if parts.get(name) is not None:
                parts[name] = kind(**parts[name])
        return cls(**parts)


_PARTS: dict[str, type] = {
    "encoder": EncoderConfig,
    "camera_head": CameraHeadConfig,
    "depth_head": DenseHeadConfig,
    "point_head": DenseHeadConfig,
    "track_head": TrackHeadConfig,
}

VGGT_1B = VGGTConfig()
