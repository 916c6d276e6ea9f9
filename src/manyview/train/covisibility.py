"""Which views of a sequence see the same places, and groups of views that do."""

from __future__ import annotations

import random

import numpy as np
from jaxtyping import Float64

from ..datasets.image_files import image_size
from ..datasets.posed_set import DepthFiles, PosedSet
from ..errors import InputError
from ..geometry.unproject_np import project

_SAMPLES = 24  # along each side of a depth map
_COARSE = 96  # pixels of the shorter side of a depth map that others are compared with
_AGREEMENT = 0.05  # share of the depth by which two views may differ


def covisibility(found: PosedSet) -> Float64[np.ndarray, "views views"]:
    """Share of the places that view i sees that view j sees too, the smaller of both directions.

    Depth of `found` is compared on a coarse grid. Raises InputError for views without depth or intrinsics.
    """
    if found.depth is None or found.intrinsics is None:
        raise InputError(f"{found.name}: choosing views that see the same places needs depth and intrinsics")
    maps = [_coarse(found.depth, index) for index in range(len(found))]
    sizes = [image_size(path) for path in found.images]
    share = np.eye(len(found))
    for view, depth in enumerate(maps):
        pixels, z = _samples(depth, sizes[view])
        matrix = np.linalg.inv(found.intrinsics[view])
        rays = np.concatenate([pixels, np.ones((len(pixels), 1))], 1) @ matrix.T
        camera = found.cam_from_world[view]
        points = (rays * z[:, None] - camera[:, 3]) @ camera[:, :3]
        at, far = project(points[None], found.cam_from_world, found.intrinsics)
        for other, there in enumerate(maps):
            if other != view and len(z):
                share[view, other] = _agreeing(at[other], far[other], there, sizes[other])
    return np.minimum(share, share.T)


def covisible_views(
    share: Float64[np.ndarray, "views views"], views: int, least: float, draws: random.Random
) -> list[int]:
    """`views` different views, each but the first sharing `least` with an earlier one where any does."""
    chosen = [draws.randrange(len(share))]
    while len(chosen) < views:
        best = share[chosen].max(0)
        best[chosen] = -1.0
        candidates = np.flatnonzero(best >= least).tolist()
        chosen.append(draws.choice(candidates) if candidates else int(best.argmax()))
    return chosen


def _coarse(depth: DepthFiles, index: int) -> np.ndarray:
    """Every n-th pixel of a depth map, about as many as are needed: long sequences must fit in memory."""
    values = depth.read(index)
    assert values is not None
    step = max(1, min(values.shape) // _COARSE)
    return values[step // 2 :: step, step // 2 :: step].astype(np.float32)


def _samples(depth: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """(pixels (x, y) of the image of this (width, height), depth there) on a grid, measured ones alone."""
    rows = ((np.arange(_SAMPLES) + 0.5) * depth.shape[0] / _SAMPLES).astype(int)
    columns = ((np.arange(_SAMPLES) + 0.5) * depth.shape[1] / _SAMPLES).astype(int)
    z = depth[np.ix_(rows, columns)].ravel()
    y, x = np.meshgrid((rows + 0.5) / depth.shape[0], (columns + 0.5) / depth.shape[1], indexing="ij")
    pixels = np.stack([x.ravel() * size[0], y.ravel() * size[1]], -1)
    measured = np.isfinite(z)
    return pixels[measured], z[measured]


def _agreeing(at: np.ndarray, far: np.ndarray, depth: np.ndarray, size: tuple[int, int]) -> float:
    """Share of points at these pixels and depths of a view that its own depth map agrees with."""
    with np.errstate(invalid="ignore"):
        inside = (far > 0) & (at >= 0).all(-1) & (at < size).all(-1)
    scale = np.array([depth.shape[1] / size[0], depth.shape[0] / size[1]])
    column, row = (at[inside] * scale).astype(int).T
    there = depth[row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)]
    with np.errstate(invalid="ignore"):
        agree = np.abs(there / far[inside] - 1) < _AGREEMENT
    return float(agree.sum()) / len(far)
