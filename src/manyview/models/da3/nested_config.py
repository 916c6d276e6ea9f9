"""Sizes of Depth Anything 3's nested network: an any-view and a metric one."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence

from ...attention.layout import TokenLayout
from ..config import NetworkConfig, SizePolicy
from ..footprint import HeadFootprint, KnownFootprint
from ..part_configs import EncoderConfig
from ..run_options import RunOptions
from .config import DA3_GIANT, DA3Config
from .mono_config import DA3_METRIC, DA3MonoConfig


@dataclasses.dataclass(frozen=True)
class DA3NestedConfig(NetworkConfig):
    """Sizes of both networks; all but the metric branch's work is what the any-view network says."""

    any_view: DA3Config = DA3_GIANT
    metric: DA3MonoConfig = DA3_METRIC

    def __post_init__(self) -> None:
        if self.any_view.head is None or self.any_view.camera_decoder is None or self.metric.head is None:
            raise ValueError("a nested network needs the heads of both of its networks")
        if self.any_view.patch_size != self.metric.patch_size:
            raise ValueError(
                f"both networks of a nested one see the same images: patches of {self.any_view.patch_size} "
                f"and {self.metric.patch_size} do not go together"
            )

    @property
    def dim(self) -> int:
        """Width of a token of the any-view network, as are all of the following."""
        return self.any_view.dim

    @property
    def depth(self) -> int:
        """Layers of a plan."""
        return self.any_view.depth

    @property
    def unpaired(self) -> int:
        """See `NetworkConfig.unpaired`."""
        return self.any_view.unpaired

    @property
    def num_heads(self) -> int:
        """Attention heads of a block."""
        return self.any_view.num_heads

    @property
    def mlp_ratio(self) -> float:
        """Hidden width of an MLP over its own."""
        return self.any_view.mlp_ratio

    @property
    def mlp_numbers(self) -> int:
        """See `NetworkConfig.mlp_numbers`."""
        return self.any_view.mlp_numbers

    @property
    def rope_base(self) -> float:
        """Base of the rotary positions."""
        return self.any_view.rope_base

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.any_view.patch_size

    @property
    def image_size(self) -> int:
        """Longer side of an image in pixels."""
        return self.any_view.image_size

    @property
    def special_tokens(self) -> int:
        """Tokens of a frame beside its patches."""
        return self.any_view.special_tokens

    @property
    def encoder(self) -> EncoderConfig:
        """The blocks before alternation."""
        return self.any_view.encoder

    @property
    def reference_views(self) -> tuple[str, ...]:
        """See `NetworkConfig.reference_views`."""
        return self.any_view.reference_views

    @property
    def size_policy(self) -> SizePolicy:
        """How images are resized."""
        return self.any_view.size_policy

    @property
    def why_no_priors(self) -> str | None:
        """Why known cameras cannot be given; None where they can."""
        return self.any_view.why_no_priors

    @property
    def available_heads(self) -> tuple[str, ...]:
        """Those of the any-view network; sky comes with every result."""
        return self.any_view.available_heads

    def check_known(self, known: Mapping[str, Sequence[bool]], names: Sequence[str]) -> None:
        """See `NetworkConfig.check_known`."""
        self.any_view.check_known(known, names)

    def with_heads(self, keep: Collection[str]) -> DA3NestedConfig:
        """The same: metres need both heads."""
        return self

    def head_flops(self, layout: TokenLayout, heads: Collection[str], query_points: int) -> dict[str, float]:
        """Those of the any-view network's heads, and of the whole metric branch."""
        own = {*heads, "camera", "depth"}
        result = self.any_view.head_flops(layout, own, query_points)
        return result | {"metric head": self.metric.branch_flops(layout)}

    def head_footprint(self, layout: TokenLayout, options: RunOptions, element_bytes: int) -> HeadFootprint:
        """See `NetworkConfig.head_footprint`; the metric branch runs after all else."""
        options = with_both_heads(options)
        own = self.any_view.head_footprint(layout, options, element_bytes)
        metric = self.metric.head_footprint(layout, options, element_bytes)
        return dataclasses.replace(own, outputs=own.outputs + metric.outputs, work=max(own.work, metric.work))

    def known_footprint(
        self, layout: TokenLayout, options: RunOptions, element_bytes: int, known: tuple[str, ...]
    ) -> KnownFootprint:
        """See `NetworkConfig.known_footprint`."""
        return self.any_view.known_footprint(layout, options, element_bytes, known)


def with_both_heads(options: RunOptions) -> RunOptions:
    """The options, with the heads that metres need, whose depth is scaled on the device."""
    heads = (*options.heads, *(head for head in ("camera", "depth") if head not in options.heads))
    return dataclasses.replace(options, heads=heads, host_outputs=False)
