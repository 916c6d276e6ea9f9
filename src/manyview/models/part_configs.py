"""Sizes of the parts that several network families share."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class EncoderConfig:
    """DINOv2 vision transformer with registers. `native_grid` is the side of the position table."""

    depth: int = 24
    num_heads: int = 16
    registers: int = 4
    native_grid: int = 37
    mlp_ratio: float = 4.0


@dataclasses.dataclass(frozen=True)
class DenseHeadConfig:
    """DPT head. `out_channels` are the widths of the four projected taps, finest first."""

    features: int = 256
    out_channels: tuple[int, int, int, int] = (256, 512, 1024, 1024)

    def __post_init__(self) -> None:
        object.__setattr__(self, "out_channels", tuple(self.out_channels))
        if len(self.out_channels) != 4:
            raise ValueError(f"a dense head reads four taps, got {len(self.out_channels)} widths")
