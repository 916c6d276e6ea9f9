"""Points of the page, ranked by confidence beforehand so that a slider only shows or hides slices."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Float32, Int, UInt8

from ..export.track_agreement import pixel_points
from ..reconstruction.result.points import depth_edges
from ..reconstruction.result.result import Reconstruction
from .options import ViewOptions

LEVEL_STEP = 2  # percentiles between two positions of the confidence slider
LEVELS = 100 // LEVEL_STEP

_CANDIDATES_PER_POINT = 4
_SAMPLED_CONFIDENCES = 4_000_000
_VOXELS_ACROSS = 1024  # of the bulk of the scene


@dataclasses.dataclass(frozen=True, eq=False)
class RankedPoints:
    """World points with colours and level, most confident level first.

    A point of level l stays while the slider is at or below l * LEVEL_STEP percent: the same rule as
    `Reconstruction.point_cloud(min_conf_percentile)`.
    """

    points: Float32[np.ndarray, "n 3"]
    colours: UInt8[np.ndarray, "n 3"]
    level: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.points)

    def count_at(self, percentile: float) -> int:
        """How many points, from the front, stay at this position of the slider."""
        return int(np.searchsorted(-self.level, -level_of(percentile), side="right"))

    def slice_of(self, level: int) -> slice:
        """Where the points of exactly this level are."""
        start, stop = np.searchsorted(-self.level, [-level, -level + 1])
        return slice(int(start), int(stop))


def level_of(percentile: float) -> int:
    """Position of the slider, counted from 0."""
    return min(round(percentile / LEVEL_STEP), LEVELS - 1)


def level_thresholds(scene: Reconstruction) -> Float32[np.ndarray, " levels"]:
    """The confidence below which a pixel is hidden, for each position of the slider.

    From all valid pixels, or an even sample of them where there are many millions.
    """
    every = max(1, scene.z_depth.size // _SAMPLED_CONFIDENCES)
    values = [scene.depth_conf[index][scene.view_valid(index)][::every] for index in range(len(scene))]
    joined = np.concatenate(values)
    if joined.size == 0:
        return np.zeros(LEVELS, dtype=np.float32)
    return np.percentile(joined, np.arange(LEVELS) * LEVEL_STEP, method="lower").astype(np.float32)


def frame_cloud(
    scene: Reconstruction,
    index: int,
    thresholds: Float32[np.ndarray, " levels"],
    drop_edges: float | None = None,
    at_most: int | None = None,
) -> RankedPoints:
    """The points of one frame: all valid pixels, or a random `at_most` of them."""
    mask = scene.view_valid(index)
    if drop_edges is not None:
        mask &= ~depth_edges(scene.z_depth[index], drop_edges)
    pixels = np.flatnonzero(mask)
    if at_most is not None and len(pixels) > at_most:
        pixels = np.random.default_rng(index).choice(pixels, at_most, replace=False)
    # Not of whole frames: a thousand of them would take a minute.
    points = pixel_points(scene, index, pixels)[1].astype(np.float32)
    usable = np.isfinite(points).all(axis=1)
    pixels, points = pixels[usable], points[usable]
    # At least 0: a sample's lowest threshold may lie above a pixel's confidence.
    conf = scene.depth_conf[index].reshape(-1)[pixels]
    level = np.maximum(np.searchsorted(thresholds, conf, side="right") - 1, 0)
    return _ranked(points, scene.images[index].reshape(-1, 3)[pixels], level)


def scene_cloud(
    scene: Reconstruction, thresholds: Float32[np.ndarray, " levels"], options: ViewOptions
) -> RankedPoints:
    """At most `options.max_points` points of all frames.

    Where views overlap, the most confident point of each small cell stays; what is still too much is
    thinned at random.
    """
    per_frame = -(-options.max_points * _CANDIDATES_PER_POINT // len(scene))
    frames = [
        frame_cloud(scene, index, thresholds, options.drop_edges, per_frame) for index in range(len(scene))
    ]
    points = np.concatenate([frame.points for frame in frames])
    colours = np.concatenate([frame.colours for frame in frames])
    level = np.concatenate([frame.level for frame in frames])
    if len(points) > options.max_points:
        kept = _best_of_each_cell(points, level)
        if len(kept) > options.max_points:
            kept = np.random.default_rng(0).choice(kept, options.max_points, replace=False)
        points, colours, level = points[kept], colours[kept], level[kept]
    return _ranked(points, colours, level)


def _ranked(
    points: Float32[np.ndarray, "n 3"], colours: UInt8[np.ndarray, "n 3"], level: Int[np.ndarray, " n"]
) -> RankedPoints:
    order = np.argsort(-level, kind="stable")
    return RankedPoints(points[order], colours[order], level[order])


def _best_of_each_cell(points: Float[np.ndarray, "n 3"], level: Int[np.ndarray, " n"]) -> np.ndarray:
    """Indices of the most confident point in each cell of a grid over the bulk of the points."""
    low, high = np.percentile(points, (5, 95), axis=0)
    size = max(float(np.linalg.norm(high - low)) / _VOXELS_ACROSS, np.finfo(np.float32).tiny)
    reach = 2**20 - 1  # three coordinates share one 64-bit key
    cells = np.clip((points - low) / size, -reach, reach).astype(np.int64) + reach
    key = (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
    order = np.argsort(-level, kind="stable")
    return order[np.unique(key[order], return_index=True)[1]]
