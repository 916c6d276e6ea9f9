"""Sizes of Depth Anything 3's networks of single views, metric or up to scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import ClassVar

from ...attention.layout import TokenLayout
from ...errors import UsageError
from ..flop_counts import conv, dense_head, encoder, linear
from ..footprint import HeadFootprint, converted_head_bytes, dense_head_bytes
from ..part_configs import DenseHeadConfig, Depth, EncoderConfig, Heads, Taps, Width
from ..run_options import RunOptions
from .config import TransformerConfig
from .metric_scale import METRIC_FOCAL


@dataclasses.dataclass(frozen=True)
class DA3MonoConfig(TransformerConfig):
    """All sizes of a network of single views.

    No block is global, so that a plan has no layers. `metric`: depth is in metres at a focal length of 300
    pixels; tensors do not tell.
    """

    head_fields: ClassVar[Mapping[str, str]] = {"depth": "head", "sky": "head"}

    dim: Width = 1024
    layers: Depth = 24
    num_heads: Heads = 16
    taps: Taps = (4, 11, 17, 23)
    head: DenseHeadConfig | None = dataclasses.field(default_factory=DenseHeadConfig)
    metric: bool = False

    @property
    def depth(self) -> int:
        """Layers of a plan."""
        return 0

    @property
    def rope_base(self) -> float:
        """Of rotary positions, which no block has."""
        return 100.0

    @property
    def encoder(self) -> EncoderConfig:
        """All blocks."""
        return EncoderConfig(self.layers, self.num_heads, 0, self.native_grid, self.mlp_ratio)

    @property
    def reference_frame(self) -> None:
        """Every frame is by itself."""
        return None

    @property
    def metric_focal(self) -> float | None:
        """See `NetworkConfig.metric_focal`."""
        return METRIC_FOCAL if self.metric else None

    def branch_flops(self, layout: TokenLayout) -> float:
        """Floating-point operations of everything, from pixels to depth and sky."""
        stages = self.head_flops(layout, ("depth",), 0)
        blocks = encoder(self.encoder, self.dim, self.patch_size, layout.patches_per_frame)
        return layout.frames * blocks + sum(stages.values())

    def head_flops(self, layout: TokenLayout, heads: Collection[str], query_points: int) -> dict[str, float]:
        """See `NetworkConfig.head_flops`; depth and sky differ in their last two convolutions."""
        if self.head is None:
            return {}
        patches, half = layout.patches_per_frame, self.head.features // 2
        pixels = patches * self.patch_size**2
        total = sum(linear(patches, self.dim, width) for width in self.head.out_channels)
        total += dense_head(self.head, 1, layout.grid, self.patch_size)
        total += conv(3, half, 32, pixels) + conv(1, 32, 1, pixels)
        return {"depth head": layout.frames * total}

    def head_footprint(self, layout: TokenLayout, options: RunOptions, element_bytes: int) -> HeadFootprint:
        """See `NetworkConfig.head_footprint`: nothing is kept of a piece of views but its outputs."""
        if self.head is None:
            return HeadFootprint(taps=0, at_end=0, outputs=0, project=0, work=0)
        patches, dim = layout.patches_per_frame, self.dim
        pixels = patches * self.patch_size**2
        piece = min(layout.frames, *(n for n in self.pieces(options) if n is not None))
        tokens = layout.tokens_per_frame * dim * element_bytes
        taps = patches * sum(self.head.out_channels) * element_bytes
        # Tokens, and what a block makes of them; a tap's copy and norm in the precision of the head.
        blocks = tokens * (2 + self.mlp_numbers) + 12 * pixels + 2 * patches * dim * 4
        head = dense_head_bytes(self.head, layout, pixels) + converted_head_bytes(self.head, options) // piece
        converted = 0
        if element_bytes < 4:
            converted = int(self.layers * (4 + 2 * self.mlp_ratio) * dim**2) * element_bytes
        work = piece * (taps + max(blocks, head)) + converted
        return HeadFootprint(taps=0, at_end=0, outputs=(4 + 4 + 1) * pixels, project=0, work=work)

    @staticmethod
    def pieces(options: RunOptions) -> tuple[int | None, int | None]:
        """Limits of how many views are run at a time, from pixels to outputs."""
        return options.frames_per_chunk, options.head_frames_per_chunk

    def with_heads(self, keep: Collection[str]) -> DA3MonoConfig:
        """The same: depth and sky come from one head."""
        return self

    def require_heads(self, heads: Collection[str]) -> None:
        """UsageError for a head that these sizes lack; it says what the network is for."""
        if "camera" in heads:
            raise UsageError(
                "a network of single views predicts depth and sky but no cameras: reconstruct with another, "
                "such as da3-base, and add --metric or --sky with this one as --metric-model"
            )
        super().require_heads(heads)


DA3_MONO = DA3MonoConfig()
DA3_METRIC = DA3MonoConfig(metric=True)
