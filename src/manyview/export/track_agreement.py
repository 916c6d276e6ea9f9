"""Which views see the same surface point, from depth maps and cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from ..files.spread import evenly_spread
from ..geometry.unproject_np import project, unproject

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

_OVERLAP_SAMPLES = 128
_OVERLAP_TOLERANCE = 0.1
_LEAST_OVERLAP = 0.05


def overlapping_views(
    scene: Reconstruction,
    valid: Bool[np.ndarray, "v h w"],
    view: int,
    at_most: int,
    rng: np.random.Generator,
) -> Int[np.ndarray, " k"]:
    """Views in which points of `view` are seen at about the right depth, from most to least overlap."""
    samples = np.flatnonzero(valid[view])
    if len(samples) == 0:
        return np.empty(0, dtype=np.int64)
    samples = rng.choice(samples, size=min(_OVERLAP_SAMPLES, len(samples)), replace=False)
    _, points = pixel_points(scene, view, samples)
    pixels, z = project(points[None], scene.cam_from_world, scene.intrinsics, scene.distortion)
    x, y, inside = to_index(pixels, scene.width, scene.height)
    index = np.arange(len(scene))[:, None]
    agree = np.abs(scene.z_depth[index, y, x] - z) < _OVERLAP_TOLERANCE * z
    overlap = (inside & valid[index, y, x] & agree).mean(axis=1)
    overlap[view] = 0.0
    order = np.argsort(-overlap, kind="stable")
    order = order[overlap[order] >= _LEAST_OVERLAP]
    # The nearest frames of a video overlap most but constrain a point least; spread over the whole range.
    return order if len(order) <= at_most else order[evenly_spread(len(order), at_most)]


def agreement(
    scene: Reconstruction,
    valid: Bool[np.ndarray, "v h w"],
    view: int,
    seeds: Int[np.ndarray, " n"],
    neighbours: Int[np.ndarray, " k"],
    depth_tolerance: float,
    max_error_px: float,
) -> tuple[Float[np.ndarray, "n 3"], Bool[np.ndarray, "1+k n"], Float[np.ndarray, "1+k n 2"]]:
    """Points of the seeds of `view`, which views agree on each (`view` itself first), and their pixels there.

    A view agrees if its depth at the projected point is within `depth_tolerance` (relative), and the point
    lifted by that depth projects back to within `max_error_px` of the seed.
    """
    start, points = pixel_points(scene, view, seeds)
    cameras, own = scene.cameras(neighbours), scene.cameras(np.array([view]))
    pixels, z = project(points[None], **cameras)
    found_z, known = _sample_depth(scene, valid, neighbours, pixels, depth_tolerance)
    member = known & (np.abs(found_z - z) <= depth_tolerance * z)
    projected = np.where(member[..., None], pixels, 0.0)
    theirs = unproject(projected, found_z, pixel_centres=scene.pixel_centres, **cameras)
    back, back_z = project(theirs, **own)
    member &= (back_z > 0) & (_distance(back, start[None]) <= max_error_px)

    members = np.concatenate([[view], neighbours])
    member = np.concatenate([np.ones((1, len(seeds)), dtype=bool), member])
    pixels = np.concatenate([start[None], pixels])
    x, y, _ = to_index(pixels, scene.width, scene.height)
    weights = np.where(member, np.maximum(scene.depth_conf[members[:, None], y, x], 1e-6), 0.0)
    lifted = np.concatenate([points[None], theirs])
    mean = (lifted * weights[..., None]).sum(0) / weights.sum(0)[:, None]
    reprojected, mean_z = project(mean[None], **scene.cameras(members))
    member &= (mean_z > 0) & (_distance(reprojected, pixels) <= max_error_px)
    return mean, member, pixels


def pixel_points(
    scene: Reconstruction, view: int, flat: Int[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, "n 2"], Float[np.ndarray, "n 3"]]:
    """Centres of pixels of a view, given by flat index, and their world points."""
    pixels = np.stack([flat % scene.width + 0.5, flat // scene.width + 0.5], axis=-1)
    z = scene.z_depth[view].reshape(-1)[flat]
    return pixels, unproject(pixels, z, pixel_centres=scene.pixel_centres, **scene.cameras(view))


def to_index(
    pixels: Float[np.ndarray, "*batch 2"], width: int, height: int
) -> tuple[Int[np.ndarray, "*batch"], Int[np.ndarray, "*batch"], Bool[np.ndarray, "*batch"]]:
    """(x, y) of the array element a place falls on, and whether it is inside; (0, 0) if not or NaN."""
    inside = (pixels >= 0).all(-1) & (pixels[..., 0] < width) & (pixels[..., 1] < height)
    safe = np.where(inside[..., None], pixels, 0.0).astype(np.int64)
    return safe[..., 0], safe[..., 1], inside


def _sample_depth(
    scene: Reconstruction,
    valid: Bool[np.ndarray, "v h w"],
    views: Int[np.ndarray, " k"],
    pixels: Float[np.ndarray, "k n 2"],
    tolerance: float,
) -> tuple[Float[np.ndarray, "k n"], Bool[np.ndarray, "k n"]]:
    """Depth of `views` at continuous pixels, and where it is known (NaN pixels are not).

    1/z is interpolated (it is linear across the image of a plane) between four valid neighbours that do
    not straddle a depth edge.
    """
    _, _, known = to_index(pixels, scene.width, scene.height)
    corner = np.where(known[..., None], pixels, 0.5) - 0.5
    base = np.clip(np.floor(corner).astype(np.int64), 0, [scene.width - 2, scene.height - 2])
    fraction = corner - base
    # Less than half a pixel from the border there are no four neighbours.
    known &= ((fraction >= 0) & (fraction <= 1)).all(-1)
    inverse = np.zeros(known.shape)
    nearest, farthest = np.full(known.shape, np.inf), np.zeros(known.shape)
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        x, y = base[..., 0] + dx, base[..., 1] + dy
        known &= valid[views[:, None], y, x]
        depth = np.where(known, scene.z_depth[views[:, None], y, x], 1.0).astype(np.float64)
        weight = np.abs(1 - dx - fraction[..., 0]) * np.abs(1 - dy - fraction[..., 1])
        inverse += weight / depth
        nearest, farthest = np.minimum(nearest, depth), np.maximum(farthest, depth)
    known &= farthest - nearest <= 2 * tolerance * nearest
    return 1.0 / np.where(known, inverse, 1.0), known


def _distance(first: Float[np.ndarray, "*#batch 2"], second: Float[np.ndarray, "*#batch 2"]) -> np.ndarray:
    return np.linalg.norm(first - second, axis=-1)
