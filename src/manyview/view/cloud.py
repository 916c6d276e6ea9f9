"""Points of the page, ranked by confidence beforehand so that a slider only shows or hides slices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int16, Int32, UInt8

from ..export.track_agreement import pixel_points
from ..files.spread import evenly_spread
from ..reconstruction.result.points import depth_jumps
from ..reconstruction.result.result import Reconstruction

LEVEL_STEP = 2  # percentiles between two positions of the confidence slider
LEVELS = 100 // LEVEL_STEP
COARSE_VIEWS = 128  # read before the page is served; the others follow
COARSE_POINTS = 100_000

_CANDIDATES_PER_POINT = 4
_SAMPLED_CONFIDENCES = 4_000_000
_VOXELS_ACROSS = 1024  # of the bulk of the scene


@dataclasses.dataclass(frozen=True, eq=False)
class RankedPoints:
    """World points with colours and level, most confident level first.

    A point of level l stays while the slider is at or below l * LEVEL_STEP percent: the same rule as
    `Reconstruction.point_cloud(min_conf_percentile)`. `jump` is the `depth_jumps` of its pixel, and `view`
    the view that it comes from.
    """

    points: Float32[np.ndarray, "n 3"]
    colours: UInt8[np.ndarray, "n 3"]
    level: Int16[np.ndarray, " n"]
    jump: Float32[np.ndarray, " n"]
    view: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.points)

    def count_at(self, percentile: float) -> int:
        """How many points, from the front, stay at this position of the slider."""
        return int(np.searchsorted(-self.level, -level_of(percentile), side="right"))

    def chosen(self, pick: Int[np.ndarray, " m"] | Bool[np.ndarray, " n"] | slice) -> RankedPoints:
        """Some of the points, in their order."""
        return RankedPoints(*(getattr(self, field.name)[pick] for field in dataclasses.fields(self)))


def level_of(percentile: float) -> int:
    """Position of the slider, counted from 0."""
    return min(round(percentile / LEVEL_STEP), LEVELS - 1)


def level_thresholds(scene: Reconstruction) -> Float32[np.ndarray, " levels"]:
    """The confidence below which a pixel is hidden, for each position of the slider.

    From all valid pixels of `COARSE_VIEWS` views, or an even sample of them where there are many millions.
    """
    chosen = evenly_spread(len(scene), COARSE_VIEWS)
    every = max(1, len(chosen) * scene.height * scene.width // _SAMPLED_CONFIDENCES)
    values = [scene.depth_conf[index][scene.view_valid(index)][::every] for index in chosen]
    joined = np.concatenate(values)
    if joined.size == 0:
        return np.zeros(LEVELS, dtype=np.float32)
    return np.percentile(joined, np.arange(LEVELS) * LEVEL_STEP, method="lower").astype(np.float32)


def frame_cloud(
    scene: Reconstruction,
    index: int,
    thresholds: Float32[np.ndarray, " levels"],
    at_most: int | None = None,
) -> RankedPoints:
    """The points of one frame: all valid pixels, or a random `at_most` of them."""
    pixels = np.flatnonzero(scene.view_valid(index))
    if at_most is not None and len(pixels) > at_most:
        pixels = np.random.default_rng(index).choice(pixels, at_most, replace=False, shuffle=False)
    # Not of whole frames: a thousand of them would take a minute.
    points = pixel_points(scene, index, pixels)[1].astype(np.float32)
    usable = np.isfinite(points).all(axis=1)
    pixels, points = pixels[usable], points[usable]
    # At least 0: a sample's lowest threshold may lie above a pixel's confidence.
    conf = scene.depth_conf[index].reshape(-1)[pixels]
    level = np.maximum(np.searchsorted(thresholds, conf, side="right") - 1, 0).astype(np.int16)
    order = np.argsort(-level, kind="stable")
    pixels = pixels[order]
    colours = scene.images[index].reshape(-1, 3)[pixels]
    jump = depth_jumps(scene.z_depth[index]).reshape(-1)[pixels]
    return RankedPoints(points[order], colours, level[order], jump, np.full(len(order), index, np.int32))


def scene_cloud(
    scene: Reconstruction,
    thresholds: Float32[np.ndarray, " levels"],
    max_points: int,
    views: Iterable[int] | None = None,
    progress: Callable[[int, int], bool] = lambda done, total: True,
) -> RankedPoints | None:
    """At most `max_points` points of all views, or of some.

    Where views overlap, the most confident point of each small cell stays; what is still too much is
    thinned at random. `progress` is called with (views done, views in all); None is returned, without
    reading on, when it answers False. Memory: four candidates for each of `max_points`, however many views.
    """
    chosen = list(range(len(scene)) if views is None else views)
    per_frame = -(-max_points * _CANDIDATES_PER_POINT // len(chosen))
    frames = []
    for done, index in enumerate(chosen):
        if not progress(done, len(chosen)):
            return None
        frames.append(frame_cloud(scene, index, thresholds, per_frame))
    names = [field.name for field in dataclasses.fields(RankedPoints)]
    cloud = RankedPoints(*(np.concatenate([getattr(frame, name) for frame in frames]) for name in names))
    cloud = cloud.chosen(np.argsort(-cloud.level, kind="stable"))
    if len(cloud) > max_points:
        kept = np.sort(best_of_each_cell(cloud.points, max_points))
        if len(kept) > max_points:
            kept = np.sort(np.random.default_rng(0).choice(kept, max_points, replace=False))
        cloud = cloud.chosen(kept)
    return cloud


def prefixes(cloud: RankedPoints, views: int) -> tuple[RankedPoints, Int[np.ndarray, " views_and_1"]]:
    """The points sorted by view, and how many come before each view (and in all)."""
    ordered = cloud.chosen(np.argsort(cloud.view, kind="stable"))
    return ordered, np.searchsorted(ordered.view, np.arange(views + 1))


def best_of_each_cell(points: Float[np.ndarray, "n 3"], max_points: int) -> Int[np.ndarray, " m"]:
    """Indices of the first point in each cell of a grid over the bulk of the points.

    Surfaces fill few cells of the box of a long walk: where hardly an eighth of `max_points` would stay,
    cells are smaller, for about half of it.
    """
    low, high = np.percentile(points, (5, 95), axis=0)
    size = max(float(np.linalg.norm(high - low)) / _VOXELS_ACROSS, float(np.finfo(np.float32).tiny))
    kept = _first_in_cells(points - low, size)
    if len(kept) < max_points / 8:
        kept = _first_in_cells(points - low, size * float(np.sqrt(len(kept) / (max_points / 2))))
    return kept


def _first_in_cells(points: Float[np.ndarray, "n 3"], size: float) -> Int[np.ndarray, " m"]:
    reach = 2**20 - 1  # three coordinates share one 64-bit key
    cells = np.clip(points / size, -reach, reach).astype(np.int64) + reach
    key = (cells[:, 0] << 42) | (cells[:, 1] << 21) | cells[:, 2]
    return np.unique(key, return_index=True)[1]
