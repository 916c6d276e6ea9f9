"""Cubic and area resampling of uint8 images as OpenCV's INTER_CUBIC and INTER_AREA do it.

Depth Anything 3 was trained on images that OpenCV resized; its filters differ from Pillow's by several grey
levels. Both are separable sums over a few source pixels: columns first, in float32, from the left, then
rows, then rounding. Cubic does not widen with the scale, so it is for enlarging.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Float32, Int, UInt8
from PIL import Image

Kernel = Literal["cubic", "area"]
_Taps = tuple[Int[np.ndarray, "size taps"], Float32[np.ndarray, "size taps"]]

_CUBIC = -0.75  # Keys' parameter
_NEGLIGIBLE = 1e-3  # parts of a source pixel that are left out, in pixels
_BAND = 16  # rows of the result that are made at a time


def resample(
    image: Image.Image, width: int, height: int, kernel: Kernel
) -> UInt8[np.ndarray, "height width 3"]:
    """An RGB image at `width` x `height` pixels; "area" averages what a pixel covers and cannot enlarge."""
    taps = _cubic_taps if kernel == "cubic" else _area_taps
    columns, rows = taps(image.width, width), taps(image.height, height)
    # OpenCV halves in integers, which rounds halves up.
    halves_up = kernel == "area" and image.size == (2 * width, 2 * height)
    result = np.empty((height, width, 3), dtype=np.uint8)
    for start in range(0, height, _BAND):
        index, weight = (part[start : start + _BAND] for part in rows)
        first, last = int(index.min()), int(index.max()) + 1
        band = np.asarray(image.crop((0, first, image.width, last)))
        across = _weighted(band, *columns, axis=1)
        values = _weighted(across, index - first, weight, axis=0)
        rounded = np.floor(values + 0.5) if halves_up else np.rint(values)
        result[start : start + _BAND] = rounded.clip(0, 255)
    return result


def _weighted(
    pixels: np.ndarray,
    index: Int[np.ndarray, "size taps"],
    weight: Float32[np.ndarray, "size taps"],
    axis: int,
) -> Float32[np.ndarray, "rows columns 3"]:
    """The sum over the taps, one after the other, along an axis."""
    weight = weight[:, None, :] if axis == 1 else weight[:, None, None, :]
    total = pixels.take(index[:, 0], axis) * weight[..., 0]
    for tap in range(1, index.shape[1]):
        total += pixels.take(index[:, tap], axis) * weight[..., tap]
    return total


def _cubic_taps(source: int, size: int) -> _Taps:
    """Keys' cubic (1981) on the four nearest pixels, those at the edge repeated."""
    place = (np.arange(size) + 0.5) * (source / size) - 0.5
    left = np.floor(place).astype(int)
    x = (place - left)[:, None] + np.array([1, 0, -1, -2])
    x, a = np.abs(x), _CUBIC
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    index = (left[:, None] + np.arange(-1, 3)).clip(0, source - 1)
    return index, np.where(x <= 1, near, far).astype(np.float32)


def _area_taps(source: int, size: int) -> _Taps:
    """The share of each source pixel in the interval that a pixel of the result covers."""
    scale = source / size
    start = np.arange(size)[:, None] * scale
    index = np.floor(start).astype(int) + np.arange(int(np.ceil(scale)) + 1)
    covered = np.minimum(start + scale, index + 1) - np.maximum(start, index)
    inside = (covered > _NEGLIGIBLE) & (index < source)
    share = covered / np.minimum(scale, source - start)
    return index.clip(0, source - 1), np.where(inside, share, 0).astype(np.float32)
