"""Sub-pixel matching of patches, starting from the pixel that depth and cameras predict.

A patch of the first image, warped by the local surface, is aligned with the second by Gauss-Newton steps
on its shift (Lucas and Kanade, 1981, with the template's gradient; brightness and contrast are free).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Float32, Int

from ..geometry.unproject_np import project, unproject
from .grey_levels import gradient, sample

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# (distance between the samples of a patch in pixels, Gauss-Newton steps): the coarse level finds the way.
_LEVELS = ((2, 4), (1, 4))
_OFFSETS = (
    np.stack(np.meshgrid(np.arange(-3, 4), np.arange(-3, 4)), axis=-1).reshape(-1, 2).astype(np.float32)
)
# Required after each level; the first only saves work.
_LEAST_CORRELATIONS = (0.5, 0.8)
# Largest relative spread of the depth around a point that still counts as one surface.
_SURFACE_TOLERANCE = 0.1
_MATCHES_AT_ONCE = 20_000


def match_patches(
    scene: Reconstruction,
    greys: tuple[Float32[np.ndarray, "v h w"], ...],
    view: int,
    seeds: Float[np.ndarray, "m 2"],
    targets: Int[np.ndarray, " m"],
    guesses: Float[np.ndarray, "m 2"],
    max_shift: float,
) -> tuple[Bool[np.ndarray, " m"], Float[np.ndarray, "m 2"]]:
    """Find the surroundings of `seeds` (pixel centres of `view`) in the views `targets` near `guesses`.

    Returns which were found, and their pixels (centres at +0.5). A match is found where the patch lies on
    one surface, and the best match correlates and is within `max_shift` pixels of the guess. Seeds should be
    `textured`. Pixels are those of the network images.
    """
    found, pixels = np.empty(len(seeds), dtype=bool), np.empty((len(seeds), 2))
    for start in range(0, len(seeds), _MATCHES_AT_ONCE):
        part = slice(start, start + _MATCHES_AT_ONCE)
        seed, target, guess = seeds[part], targets[part], guesses[part]
        warp, good = local_warp(scene, view, seed, target)
        shift = np.zeros(guess.shape, dtype=np.float32)
        for (spacing, steps), grey, enough in zip(_LEVELS, greys, _LEAST_CORRELATIONS, strict=True):
            alive = np.flatnonzero(good)
            patch = _Patch(grey, view, seed[alive], spacing * _OFFSETS, warp[alive].astype(np.float32))
            moved = np.clip(shift[alive], -max_shift, max_shift)
            for _ in range(steps):
                moved -= np.clip(patch.step(target[alive], guess[alive] + moved), -spacing, spacing)
            shift[alive] = moved
            good[alive] = patch.correlation(target[alive], guess[alive] + moved) >= enough
        found[part] = good & (np.linalg.norm(shift, axis=1) <= max_shift)
        pixels[part] = guess + shift
    return found, pixels


class _Patch:
    """Patches of one view, and the steps that align their warped counterparts in other views."""

    def __init__(
        self,
        grey: Float32[np.ndarray, "v h w"],
        view: int,
        seeds: Float[np.ndarray, "m 2"],
        offsets: Float32[np.ndarray, "k 2"],
        warp: Float32[np.ndarray, "m 2 2"],
    ) -> None:
        around = seeds.astype(np.float32)[:, None] + offsets
        self.grey = grey
        self.inside = _all_inside(around, *grey.shape[1:])
        self.template, self.spread = _normalised(sample(grey, np.full(len(seeds), view), around))
        # The template's gradient in the axes of the target.
        slope = gradient(grey[view], around) @ np.linalg.inv(warp)
        self.gradient = slope - slope.mean(axis=1, keepdims=True)
        tensor = np.swapaxes(self.gradient, 1, 2) @ self.gradient
        self.inverse = np.linalg.inv(tensor + 1e-3 * np.eye(2, dtype=np.float32))
        self.offsets = offsets @ np.swapaxes(warp, 1, 2)

    def step(
        self, targets: Int[np.ndarray, " m"], places: Float[np.ndarray, "m 2"]
    ) -> Float32[np.ndarray, "m 2"]:
        """One Gauss-Newton step, to be subtracted from the place."""
        pixels = places.astype(np.float32)[:, None] + self.offsets
        residual = (_normalised(sample(self.grey, targets, pixels))[0] - self.template) * self.spread[:, None]
        slope = np.swapaxes(self.gradient, 1, 2) @ residual[..., None]
        return (self.inverse @ slope)[..., 0]

    def correlation(
        self, targets: Int[np.ndarray, " m"], places: Float[np.ndarray, "m 2"]
    ) -> Float32[np.ndarray, " m"]:
        """Normalised cross-correlation, -1 where the patch leaves either image."""
        pixels = places.astype(np.float32)[:, None] + self.offsets
        found, _ = _normalised(sample(self.grey, targets, pixels))
        inside = self.inside & _all_inside(pixels, *self.grey.shape[1:])
        return np.where(inside, (found * self.template).sum(axis=1), np.float32(-1.0))


def local_warp(
    scene: Reconstruction, view: int, seeds: Float[np.ndarray, "m 2"], targets: Int[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, "m 2 2"], Bool[np.ndarray, " m"]]:
    """Derivative of the pixel in the target by the pixel in `view`, and where it can be trusted.

    The surface is the plane through the point that fits the inverse depth of its 3x3 neighbourhood.
    """
    x, y = (np.clip(np.floor(seeds).astype(np.int64), 1, [scene.width - 2, scene.height - 2])).T
    rows, columns = np.mgrid[-1:2, -1:2].reshape(2, 9)
    depth = scene.z_depth[view][y[:, None] + rows, x[:, None] + columns].astype(np.float64)
    usable = np.isfinite(depth) & (depth > 0)
    depth = np.where(usable, depth, 1.0)
    trusted = usable.all(axis=1) & (np.ptp(depth, axis=1) <= _SURFACE_TOLERANCE * depth.min(axis=1))
    slope = (1 / depth) @ np.stack([columns, rows], axis=-1) / 6.0
    steps = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    inverse_depth = 1 / depth[:, 4:5] + slope @ steps.T
    trusted &= (inverse_depth > 0).all(axis=1)
    lifted = unproject(
        (seeds[:, None] + steps).reshape(-1, 2),
        1 / np.where(trusted[:, None], inverse_depth, 1.0).reshape(-1),
        pixel_centres=scene.pixel_centres,
        **scene.cameras(view),
    )
    pixels, _ = project(lifted.reshape(-1, 3, 3), **scene.cameras(targets))
    warp = np.stack([pixels[:, 1] - pixels[:, 0], pixels[:, 2] - pixels[:, 0]], axis=-1)
    area = np.abs(warp[:, 0, 0] * warp[:, 1, 1] - warp[:, 0, 1] * warp[:, 1, 0])
    trusted &= (area > 0.1) & (area < 10.0)  # False for NaN, too: behind the camera
    return np.where(trusted[:, None, None], warp, np.eye(2)), trusted


def _all_inside(pixels: Float32[np.ndarray, "m k 2"], height: int, width: int) -> Bool[np.ndarray, " m"]:
    """True for patches that can be interpolated everywhere: a parallelogram is inside if its corners are."""
    side = math.isqrt(pixels.shape[1])
    corners = pixels[:, [0, side - 1, -side, -1]]
    limit = np.array([width - 0.5, height - 0.5], dtype=np.float32)
    return np.logical_and.reduce((corners >= 0.5) & (corners <= limit), axis=(1, 2))


def _normalised(
    values: Float32[np.ndarray, "m k"],
) -> tuple[Float32[np.ndarray, "m k"], Float32[np.ndarray, " m"]]:
    """Values with mean 0 and norm 1, and the norm they had."""
    centred = values - values.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1)
    return centred / np.maximum(norm, np.float32(1e-6))[:, None], norm
