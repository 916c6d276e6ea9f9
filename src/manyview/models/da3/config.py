"""Sizes of Depth Anything 3: the any-view networks, and what all of its vision transformers share."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
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
    Width,
)
from ..run_options import REFERENCE_VIEWS
from .flops import head_flops
from .footprint import head_footprint
from .known import check_known


@dataclasses.dataclass(frozen=True)
class CameraEncoderConfig:
    """Blocks over views that turn known cameras into camera tokens."""

    depth: Depth = 4
    num_heads: Heads = 16
    mlp_ratio: MlpRatio = 4.0


@dataclasses.dataclass(frozen=True)
class TransformerConfig(NetworkConfig):
    """Sizes of a DINOv2 without registers and of the head that reads it.

    `layers` counts all blocks; `taps` are the blocks whose outputs the dense head reads; `native_grid` is
    the side of the position table, in patches; `image_size` the longer side that the weights were made for.
    With `swiglu` an MLP is `SwiGlu` in place of two linear layers and a GELU.
    """

    dim: Width = 384
    layers: Depth = 12
    num_heads: Heads = 6
    mlp_ratio: MlpRatio = 4.0
    swiglu: bool = False
    patch_size: Patch = 14
    native_grid: Pixels = 37
    image_size: Pixels = 504
    taps: Taps = (5, 7, 9, 11)
    head: DenseHeadConfig | None = dataclasses.field(
        default_factory=lambda: DenseHeadConfig(64, (48, 96, 192, 384))
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "taps", tuple(self.taps))
        check_heads(self.dim, self.num_heads)
        if len(self.taps) != 4 or any(not 0 <= tap < self.layers for tap in self.taps):
            raise ValueError(f"taps {self.taps} must be four blocks below {self.layers}")

    @property
    def special_tokens(self) -> int:
        """The class token, whose place the camera token takes."""
        return 1

    @property
    def mlp_numbers(self) -> int:
        """With `swiglu` gate and value, the activated gate and the product, each two thirds as wide."""
        return math.ceil(self.mlp_ratio * 8 / 3) if self.swiglu else super().mlp_numbers

    @property
    def size_policy(self) -> Literal["upper_bound"]:
        """Longer side `image_size`, then each side to whole patches."""
        return "upper_bound"


@dataclasses.dataclass(frozen=True)
class DA3Config(TransformerConfig):
    """All sizes of an any-view network.

    Blocks before `alternating_from` act within views; from it on odd blocks are global and even ones act
    within views. A plan covers the global ones (`depth`). `camera_decoder` is True, or None without it.
    """

    head_fields: ClassVar[Mapping[str, str]] = {"camera": "camera_decoder", "depth": "head"}
    head_flops = head_flops
    head_footprint = head_footprint

    alternating_from: Layer = 4
    rope_base: RopeBase = 100.0
    camera_encoder: CameraEncoderConfig | None = CameraEncoderConfig()
    camera_decoder: Literal[True] | None = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.alternating_from < self.layers or self.layers % 2:
            raise ValueError(
                f"alternation from block {self.alternating_from} of {self.layers}: expected a block between, "
                "and an even number of blocks, so that the last one is global"
            )
        if any(tap < self.alternating_from for tap in self.taps) or self.layers - 1 not in self.taps:
            raise ValueError(
                f"taps {self.taps} must be blocks from {self.alternating_from} on, with the last one"
            )

    @property
    def depth(self) -> int:
        """Layers of a plan: the global blocks."""
        return (self.layers - self.alternating_from + 1) // 2

    @property
    def unpaired(self) -> int:
        """The first global block has no block within views in front where alternation starts with it."""
        return self.alternating_from % 2

    @property
    def encoder(self) -> EncoderConfig:
        """The blocks before alternation."""
        return EncoderConfig(self.alternating_from, self.num_heads, 0, self.native_grid, self.mlp_ratio)

    @property
    def tap_pairs(self) -> Taps:
        """The pairs that the blocks `taps` belong to."""
        one, two, three, four = (self.depth - 1 - (self.layers - 1 - tap) // 2 for tap in self.taps)
        return one, two, three, four

    @property
    def reference_views(self) -> tuple[str, ...]:
        """All, the published default first."""
        return REFERENCE_VIEWS

    @property
    def why_no_priors(self) -> str | None:
        """Weights may lack a part that known cameras need."""
        if self.camera_encoder is not None and self.camera_decoder is not None:
            return None
        return "was loaded without its camera encoder and decoder, which known cameras need: load all of it"

    def check_known(self, known: Mapping[str, Sequence[bool]], names: Sequence[str]) -> None:
        """UsageError unless poses and intrinsics of all views, and no depth, are known."""
        check_known(known, names)

    @property
    def available_heads(self) -> tuple[str, ...]:
        """Names of the heads that these sizes have; rays come from the dense head."""
        found = super().available_heads
        return (*found, "rays") if "depth" in found else found

    def with_heads(self, keep: Collection[str]) -> DA3Config:
        """The same without the heads that are not in `keep`."""
        return super().with_heads({*keep, "depth"} if "rays" in keep else keep)


DA3_SMALL = DA3Config()
DA3_BASE = DA3Config(dim=768, num_heads=12, head=DenseHeadConfig(128, (96, 192, 384, 768)))
DA3_LARGE = DA3Config(
    dim=1024, layers=24, num_heads=16, taps=(11, 15, 19, 23), alternating_from=8, head=DenseHeadConfig()
)
DA3_GIANT = DA3Config(
    dim=1536, layers=40, num_heads=24, swiglu=True, taps=(19, 27, 33, 39), alternating_from=13,
    head=DenseHeadConfig(),
)  # fmt: skip
