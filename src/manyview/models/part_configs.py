"""Sizes of the parts that several network families share, and what any size may be."""

from __future__ import annotations

import dataclasses
from typing import Annotated

from msgspec import Meta

# Bounds of what a file may ask for, far beyond any network: nothing is allocated before they are checked.
Depth = Annotated[int, Meta(ge=1, le=200)]
Width = Annotated[int, Meta(ge=1, le=16384)]
Heads = Annotated[int, Meta(ge=1, le=1024)]
Tokens = Annotated[int, Meta(ge=0, le=1024)]
Iterations = Annotated[int, Meta(ge=1, le=64)]
Pixels = Annotated[int, Meta(ge=1, le=16384)]
Patch = Annotated[int, Meta(ge=1, le=256)]
Layer = Annotated[int, Meta(ge=0, lt=200)]
MlpRatio = Annotated[float, Meta(gt=0, le=64)]
RopeBase = Annotated[float, Meta(gt=0, le=1e9)]
Taps = tuple[Layer, Layer, Layer, Layer]
Widths = tuple[Width, Width, Width, Width]


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """DINOv2 vision transformer with registers. `native_grid` is the side of the position table."""

    depth: Depth = 24
    num_heads: Heads = 16
    registers: Tokens = 4
    native_grid: Pixels = 37
    mlp_ratio: MlpRatio = 4.0


@dataclasses.dataclass(frozen=True)
class DenseHeadConfig:
    """DPT head. `out_channels` are the widths of the four projected taps, finest first."""

    features: Width = 256
    out_channels: Widths = (256, 512, 1024, 1024)

    def __post_init__(self) -> None:
        object.__setattr__(self, "out_channels", tuple(self.out_channels))
        if len(self.out_channels) != 4:
            raise ValueError(f"a dense head reads four taps, got {len(self.out_channels)} widths")
