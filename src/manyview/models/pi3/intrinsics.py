"""Pinhole intrinsics of points that a network gave for every pixel."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_ROUNDS = 5
_FAR = 3.0  # robust weights fall off beyond so many typical errors


def focal_from_points(
    points: Float[Tensor, "*batch height width 3"], weight: Float[Tensor, "*batch height width"]
) -> Float[Tensor, "*batch 3 3"]:
    """Intrinsics (pixels, principal point in the middle of the image) that project points onto their pixels.

    fx and fy minimise the weighted squared distance of fx X/Z to the pixel centre's offset from the middle,
    with weights that fall for outliers (iterated, Geman-McClure). A view without any spread of directions
    gets the longer side as its focal length.
    """
    height, width = points.shape[-3:-1]
    x = torch.arange(width, device=points.device, dtype=points.dtype) + 0.5 - width / 2
    y = torch.arange(height, device=points.device, dtype=points.dtype) + 0.5 - height / 2
    ray = points[..., :2] / points[..., 2:].clamp(min=1e-6)
    offsets = (x.expand(ray.shape[:-1]), y[:, None].expand(ray.shape[:-1]))
    focal = [_slope(ray[..., i], offsets[i], weight, float(max(height, width))) for i in range(2)]
    matrix = points.new_zeros(*points.shape[:-3], 3, 3)
    matrix[..., 0, 0], matrix[..., 1, 1] = focal
    matrix[..., 0, 2], matrix[..., 1, 2], matrix[..., 2, 2] = width / 2, height / 2, 1.0
    return matrix


def _slope(ray: Tensor, offset: Tensor, weight: Tensor, fallback: float) -> Tensor:
    """f of each view in offset = f * ray, robustly; positive."""
    ray, offset, weight = (t.flatten(-2) for t in (ray, offset, weight))
    robust = weight
    focal = ray.new_full(ray.shape[:-1], fallback)
    for _ in range(_ROUNDS):
        spread = (robust * ray * ray).sum(-1)
        fitted = (robust * ray * offset).sum(-1) / spread.clamp(min=1e-12)
        focal = torch.where((spread > 1e-9) & (fitted > 0), fitted, fallback)
        error = (focal[..., None] * ray - offset).abs()
        typical = error.median(-1, keepdim=True).values.clamp(min=1e-3)
        robust = weight / (1 + (error / (_FAR * typical)).square()).square()
    return focal
