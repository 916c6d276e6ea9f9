"""Reading feature maps between pixels."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def sample_bilinear(
    maps: Float[Tensor, "b c h w"],
    coords: Float[Tensor, "b *points 2"],
    padding: Literal["border", "zeros"],
) -> Float[Tensor, "b *points c"]:
    """Bilinear samples at (x, y) in pixels of `maps`, where integer coordinates are pixel centres.

    Outside the map the nearest edge pixel ("border") or zero ("zeros") is read.
    """
    batch, channels, height, width = maps.shape
    size = torch.tensor((max(width - 1, 1), max(height - 1, 1)), dtype=coords.dtype, device=coords.device)
    unit = coords * (2.0 / size) - 1.0
    sampled = F.grid_sample(
        maps, unit.reshape(batch, 1, -1, 2), mode="bilinear", padding_mode=padding, align_corners=True
    )
    return sampled[:, :, 0].transpose(1, 2).reshape(*coords.shape[:-1], channels)
