"""Sine and cosine embeddings the tracker adds to its tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_TABLE_BASE = 10_000.0
_FLOW_SCALE = 1_000.0


def flow_embedding(flow: Float[Tensor, "*batch 2"], channels: int) -> Float[Tensor, "*batch _"]:
    """Embed a displacement in feature pixels: sine and cosine interleaved, first all of x, then all of y.

    Frequencies run from 0 in steps of 2000 / channels to almost 1000 radians a pixel, so a rounding error of
    the displacement comes out about a thousand times larger.
    """
    step = _FLOW_SCALE / channels
    frequencies = torch.arange(0, channels, 2, dtype=flow.dtype, device=flow.device) * step
    angles = flow[..., None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-3)


def position_table(
    channels: int, height: int, width: int, device: torch.device | str | None = None
) -> Float[Tensor, "1 c h w"]:
    """Fixed 2-D table: half the channels encode x, half y, each as sines followed by cosines (base 10 000).

    Computed in float64 and rounded once, so that it is the same on every device.
    """
    quarter = channels // 4
    exponents = torch.arange(quarter, dtype=torch.float64) / quarter
    frequencies = _TABLE_BASE**-exponents

    def axis(length: int) -> Tensor:
        angles = torch.arange(length, dtype=torch.float64)[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1).T  # [channels / 2, length]

    along_x = axis(width)[:, None, :].expand(-1, height, -1)
    along_y = axis(height)[:, :, None].expand(-1, -1, width)
    return torch.cat((along_x, along_y))[None].float().to(device)
