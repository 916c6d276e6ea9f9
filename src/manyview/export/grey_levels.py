"""Grey values of images: blurred levels, texture, bilinear samples and gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# A patch can be located if its structure tensor's smaller eigenvalue exceeds this (grey levels² a pixel²).
_LEAST_TEXTURE = 9.0


def grey_levels(scene: Reconstruction) -> tuple[Float32[np.ndarray, "v h w"], ...]:
    """The images as grey values 0..255, one array per level of the search: blurred, then plain."""
    weights = np.array([0.299, 0.587, 0.114], dtype=np.float32)
    plain = np.empty(scene.images.shape[:3], dtype=np.float32)
    blurred = np.empty_like(plain)
    for index, image in enumerate(scene.images):  # all at once would hold the colours as float32
        plain[index] = image.astype(np.float32) @ weights
        blurred[index] = _blurred(plain[index : index + 1])[0]
    return blurred, plain


def textured(grey: Float32[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Where a patch around the pixel has structure in two directions (Shi and Tomasi, 1994)."""
    dy, dx = np.gradient(grey)
    xx, xy, yy = (_window_mean(product) for product in (dx * dx, dx * dy, dy * dy))
    return (xx + yy) / 2 - np.hypot((xx - yy) / 2, xy) > _LEAST_TEXTURE


def sample(
    grey: Float32[np.ndarray, "v h w"], views: Int[np.ndarray, " m"], pixels: Float32[np.ndarray, "m k 2"]
) -> Float32[np.ndarray, "m k"]:
    """Bilinear grey values; meaningless for places outside the image."""
    height, width = grey.shape[1:]
    x, y = np.moveaxis(pixels - np.float32(0.5), -1, 0)
    column, row = np.floor(x), np.floor(y)
    right, lower = x - column, y - row
    index = row.astype(np.int64) * width + column.astype(np.int64) + views[:, None] * (height * width)
    flat = grey.reshape(-1)
    corners = [flat.take(index + step, mode="clip") for step in (0, 1, width, width + 1)]
    upper_value = corners[0] + (corners[1] - corners[0]) * right
    lower_value = corners[2] + (corners[3] - corners[2]) * right
    return upper_value + (lower_value - upper_value) * lower


def gradient(
    grey: Float32[np.ndarray, "h w"], pixels: Float32[np.ndarray, "m k 2"]
) -> Float32[np.ndarray, "m k 2"]:
    """Central differences at the pixels that contain `pixels`."""
    height, width = grey.shape
    x = np.clip(np.floor(pixels[..., 0]).astype(np.int64), 1, width - 2)
    y = np.clip(np.floor(pixels[..., 1]).astype(np.int64), 1, height - 2)
    half = np.float32(0.5)
    return np.stack(
        [half * (grey[y, x + 1] - grey[y, x - 1]), half * (grey[y + 1, x] - grey[y - 1, x])], axis=-1
    )


def _window_mean(values: Float32[np.ndarray, "h w"], radius: int = 3) -> Float[np.ndarray, "h w"]:
    """Mean over the square of `radius` around each pixel, edges repeated."""
    padded = np.pad(values.astype(np.float64), ((radius + 1, radius), (radius + 1, radius)), mode="edge")
    total = padded.cumsum(axis=0).cumsum(axis=1)
    size = 2 * radius + 1
    window = total[size:, size:] - total[:-size, size:] - total[size:, :-size] + total[:-size, :-size]
    return window / size**2


def _blurred(grey: Float32[np.ndarray, "v h w"]) -> Float32[np.ndarray, "v h w"]:
    """A binomial filter, [1 2 1] / 4 along both axes, edges repeated."""
    padded = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="edge")
    rows = (padded[:, :-2] + padded[:, 2:]) * np.float32(0.25) + padded[:, 1:-1] * np.float32(0.5)
    return (rows[:, :, :-2] + rows[:, :, 2:]) * np.float32(0.25) + rows[:, :, 1:-1] * np.float32(0.5)
