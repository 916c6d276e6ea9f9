"""How well a track's feature matches the neighbourhood of its present position, on several scales."""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

_POINTS_AT_ONCE = 1024  # their windows take about 40 MB at 128 channels


def pyramid(features: Float[Tensor, "n c h w"], levels: int) -> list[Float[Tensor, "n c _ _"]]:
    """The feature maps and `levels - 1` halvings of them (2x2 means, odd last rows and columns dropped)."""
    maps = [features]
    for _ in range(levels - 1):
        maps.append(F.avg_pool2d(maps[-1], kernel_size=2, stride=2))
    return maps


def window_offsets(radius: int, like: Tensor) -> Float[Tensor, "window 2"]:
    """(x, y) offsets of the (2 radius + 1)^2 window; x is the slow index, y the fast one."""
    steps = torch.arange(-radius, radius + 1, dtype=like.dtype, device=like.device)
    return torch.cartesian_prod(steps, steps)


def local_correlation(
    maps: list[Float[Tensor, "b c _ _"]],
    targets: Float[Tensor, "b n c"],
    coords: Float[Tensor, "b n 2"],
    radius: int,
) -> Float[Tensor, "b n _"]:
    """Scaled products of each target with the window around its coordinates, level after level.

    `coords` are pixels of the finest map; level i reads at coords / 2^i, and zero outside. Only the windows
    are read: memory grows with points x window x channels, never with points x height x width.
    """
    pieces = zip(targets.split(_POINTS_AT_ONCE, dim=1), coords.split(_POINTS_AT_ONCE, dim=1), strict=True)
    return torch.cat([_correlate(maps, some, at, radius) for some, at in pieces], dim=1)


def _correlate(maps: list[Tensor], targets: Tensor, coords: Tensor, radius: int) -> Tensor:
    offsets = window_offsets(radius, coords)
    scale = 1.0 / math.sqrt(targets.shape[-1])
    products = []
    for level, level_map in enumerate(maps):
        centres = coords / 2**level
        window = sample_bilinear(level_map, centres[:, :, None] + offsets, padding="zeros")
        products.append(torch.einsum("bnwc,bnc->bnw", window, targets) * scale)
    return torch.cat(products, dim=-1)


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
