"""What the heads of an any-view network read of its blocks."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from ..dense_head import FeatureTapMaps
from ..feature_taps import FeatureTaps
from ..layers import LayerNorm
from ..precision import Compute
from ..run_options import RunOptions
from .config import DA3Config


class ViewAndCurrent(FeatureTaps):
    """Taps of the state after the last block within views, as it is, and of the current state, normed.

    Camera tokens stay without the norm.
    """

    def __init__(
        self, config: DA3Config, heads: Mapping[str, FeatureTapMaps], options: RunOptions, norm: LayerNorm
    ) -> None:
        super().__init__(config, heads, options, taps=config.tap_pairs)
        # A block within views has no other state beside its own.
        self._within = tuple((config.layers - 1 - tap) % 2 == 1 for tap in config.taps)
        self._norm = norm

    def joined(
        self, index: int, frame: Tensor, across: Tensor, dtype: torch.dtype, compute: Compute
    ) -> Tensor:
        current = frame if self._within[index] else across
        return torch.cat([frame.to(dtype), self._norm(current.to(dtype), compute)], dim=-1)
