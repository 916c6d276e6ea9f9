"""Images, depth and intrinsics cut and resized to one size, as benchmarks hand them to networks.

In three steps, those of DUSt3R's loaders: a cut that is symmetric about the principal point, a resize until
the frame is covered, a cut at the centre. Images are filtered (Lanczos when they shrink, else bicubic), depth
is the nearest value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image

from ..errors import InputError
from ..geometry.unproject_np import pixel_grid

_LEAST_MARGIN = 1 / 5
"""Share of a side that must lie on either side of the principal point for a cut about it."""

_FLIPS = (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM)


@dataclasses.dataclass(frozen=True)
class Undistortion:
    """From a camera with OpenCV's distortion (k1, k2, p1, p2, k3, k4, k5, k6; fewer are 0) to a pinhole."""

    intrinsics: Float64[np.ndarray, "3 3"]
    distorted_intrinsics: Float64[np.ndarray, "3 3"]
    coefficients: tuple[float, ...]

    def apply(self, image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """The image of the pinhole, bilinear, black where the lens saw nothing. Intrinsics are for +0.5."""
        height, width = image.shape[:2]
        k, lens = self.intrinsics, self.distorted_intrinsics
        k1, k2, p1, p2, k3, k4, k5, k6 = (*self.coefficients, *(0.0,) * 8)[:8]
        x, y = np.moveaxis((pixel_grid(height, width) - k[:2, 2]) / [k[0, 0], k[1, 1]], -1, 0)
        r2 = x * x + y * y
        radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return _bilinear(image, u * lens[0, 0] + lens[0, 2] - 0.5, v * lens[1, 1] + lens[1, 2] - 0.5)


@dataclasses.dataclass(frozen=True)
class FixedFrame:
    """How one image of `stored` size becomes one of `size` (both width, height).

    It is undistorted, mirrored, cut to `box` (left, top, right, bottom), resized to `scaled` by the factor
    `scale`, and cut to `size` from `corner` (x, y) on.
    """

    stored: tuple[int, int]
    size: tuple[int, int]
    box: tuple[int, int, int, int]
    scale: float
    scaled: tuple[int, int]
    corner: tuple[int, int]
    mirrored: tuple[bool, bool] = (False, False)
    undistortion: Undistortion | None = None

    def image(self, path: Path) -> Image.Image:
        """The image of a file. Raises InputError for one that cannot be read."""
        try:
            with Image.open(path) as file:
                image = file.convert("RGB")
        except (OSError, SyntaxError, ValueError) as error:
            raise InputError(f"{path}: cannot be read as an image ({error}); copy it again") from error
        if self.undistortion is not None:
            image = Image.fromarray(self.undistortion.apply(np.asarray(image)))
        for flag, flip in zip(
            self.mirrored, (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.FLIP_TOP_BOTTOM)
        ):
            image = image.transpose(flip) if flag else image
        kernel = Image.Resampling.LANCZOS if self.scale < 1 else Image.Resampling.BICUBIC
        (x, y), (width, height) = self.corner, self.size
        return image.crop(self.box).resize(self.scaled, kernel).crop((x, y, x + width, y + height))

    def depth(self, depth: Float64[np.ndarray, "rows columns"]) -> Float64[np.ndarray, "height width"]:
        """The value of a depth map, which has the image's field of view, under the centre of each pixel."""
        depth = depth[:: -1 if self.mirrored[1] else 1, :: -1 if self.mirrored[0] else 1]
        places = []
        for axis, count in ((1, depth.shape[0]), (0, depth.shape[1])):
            low, high = self.box[axis], self.box[axis + 2]
            at = np.arange(self.size[axis]) + self.corner[axis] + 0.5
            pixel = low + at * (high - low) / self.scaled[axis]
            places.append(np.floor(pixel * count / self.stored[axis]).astype(int).clip(0, count - 1))
        return depth[np.ix_(*places)]

    def intrinsics(self, stored: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"]:
        """Those of the frame, from those of the stored image; pixel centres at +0.5."""
        matrix = self._mirrored_intrinsics(stored)
        matrix[:2, 2] -= self.box[:2]
        matrix[:2] *= self.scale
        sides = np.array([self.box[2] - self.box[0], self.box[3] - self.box[1]])
        # Rounding down left out a part of a pixel, half of it on either side.
        matrix[:2, 2] -= (sides * self.scale - self.scaled) / 2 + self.corner
        return matrix

    def _mirrored_intrinsics(self, stored: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"]:
        matrix = stored.copy()
        for axis in (0, 1):
            if self.mirrored[axis]:
                matrix[axis, 2] = self.stored[axis] - matrix[axis, 2]
        return matrix


def fixed_frame(
    stored: tuple[int, int],
    size: tuple[int, int],
    intrinsics: Float64[np.ndarray, "3 3"] | None,
    mirrored: tuple[bool, bool] = (False, False),
    undistortion: Undistortion | None = None,
) -> FixedFrame:
    """The frame of `size` of an image of `stored` size; without intrinsics its principal point is the centre.

    There is no cut about a principal point that is within a fifth of a side of the border.
    """
    frame = FixedFrame(stored, size, (0, 0, *stored), 1.0, stored, (0, 0), mirrored, undistortion)
    if intrinsics is not None:
        x, y = (round(float(v) - 0.5) for v in frame._mirrored_intrinsics(intrinsics)[:2, 2])
        across, down = min(x, stored[0] - x), min(y, stored[1] - y)
        if across > _LEAST_MARGIN * stored[0] and down > _LEAST_MARGIN * stored[1]:
            frame = dataclasses.replace(frame, box=(x - across, y - down, x + across, y + down))
    width, height = frame.box[2] - frame.box[0], frame.box[3] - frame.box[1]
    scale = max(size[0] / width, size[1] / height) + 1e-8
    scaled = math.floor(width * scale), math.floor(height * scale)
    corner = round((scaled[0] - size[0]) / 2), round((scaled[1] - size[1]) / 2)
    return dataclasses.replace(frame, scale=scale, scaled=scaled, corner=corner)


def whole_patches(width: int, patch: int, image: Sequence[int]) -> tuple[int, int]:
    """(width, height) in whole patches, of about the shape of an image (width, height)."""
    return width, max(1, round(image[1] / image[0] * width / patch)) * patch


def _bilinear(
    image: UInt8[np.ndarray, "height width 3"],
    x: Float64[np.ndarray, "rows columns"],
    y: Float64[np.ndarray, "rows columns"],
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Values at (x, y), the first pixel's centre at (0, 0); black beyond the border."""
    height, width = image.shape[:2]
    x, y = (np.nan_to_num(v, nan=-2.0).clip(-2, side + 1) for v, side in ((x, width), (y, height)))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    padded = np.pad(image, ((2, 3), (2, 3), (0, 0))).astype(np.float32)
    right_share, low_share = (x - left)[..., None], (y - top)[..., None]
    rows = [
        padded[top + 2 + down, left + 2] * (1 - right_share) + padded[top + 2 + down, left + 3] * right_share
        for down in (0, 1)
    ]
    return np.rint(rows[0] * (1 - low_share) + rows[1] * low_share).astype(np.uint8)
