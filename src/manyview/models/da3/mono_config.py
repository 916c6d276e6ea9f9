"""Sizes of Depth Anything 3's networks of single views, metric or up to scale."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import ClassVar, Literal

from ...errors import UsageError
from ..part_configs import DenseHeadConfig, Depth, EncoderConfig, Heads, Taps, Width
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
    def size_policy(self) -> Literal["upper_bound"]:
        """Longer side `image_size`, as Depth Anything 3's loader resizes."""
        return "upper_bound"

    @property
    def metric_focal(self) -> float | None:
        """See `NetworkConfig.metric_focal`."""
        return METRIC_FOCAL if self.metric else None

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
