"""Small layers with positions that method tests share."""

from __future__ import annotations

import torch

from manyview.attention.layout import TokenLayout
from manyview.attention.protocols import LayerRun
from manyview.models.blocks import Attention
from manyview.models.rotary import frame_positions, rotation_for

LAYOUTS = [
    TokenLayout(1, 5, (4, 4)),
    TokenLayout(2, 5, (3, 7)),
    TokenLayout(7, 2, (3, 5)),
    TokenLayout(5, 0, (4, 6), reference_frame=None),
    TokenLayout(6, 1, (2, 5), reference_frame=4),
]


def small_layer(layout: TokenLayout, dtype: torch.dtype = torch.float64, seed: int = 0):
    """(attention with 2 heads of 8, tokens [2, S*P, 16], rotation) of a layout."""
    torch.manual_seed(seed)
    attention = Attention(16, 2, qk_norm=True).to(dtype)
    tokens = torch.randn(2, layout.tokens, 16, dtype=dtype)
    return attention, tokens, rotation_for(frame_positions(layout.grid, layout.special_tokens), 8)


def run_with_features(tokens: torch.Tensor, layout: TokenLayout) -> LayerRun:
    """A run whose frame features are the mean tokens of the frames."""
    return LayerRun(frame_features=tokens.detach().unflatten(1, (layout.frames, -1)).mean(2).float())
