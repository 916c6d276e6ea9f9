"""Coloured points out of a reconstruction: which pixels are kept, by share of confidence and by number."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float32, Int32, UInt8

from ...errors import UsageError

if TYPE_CHECKING:
    from .result import Reconstruction


@dataclasses.dataclass(frozen=True, eq=False)
class PointCloud:
    """World points with colour, the model's confidence and the view each one comes from."""

    points: Float32[np.ndarray, "n 3"]
    colours: UInt8[np.ndarray, "n 3"]
    confidence: Float32[np.ndarray, " n"]
    view_index: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.points)


def confidence_threshold(scene: Reconstruction, percentile: float, source: str = "depth") -> float:
    """The confidence that `percentile` percent of all valid pixels stay below (inf if none is valid).

    Raises UsageError when `percentile` is not in [0, 100).
    """
    if not 0 <= percentile < 100:
        raise UsageError(f"the confidence percentile must be at least 0 and below 100, not {percentile}")
    conf = _confidence(scene, source)
    values = np.empty(conf.size, dtype=conf.dtype)  # filled view by view: no second copy of all of them
    count = 0
    for index in range(len(scene)):
        own = conf[index][_view_mask(scene, index, source)]
        values[count : count + own.size] = own
        count += own.size
    if count == 0:
        return float("inf")
    # "lower" returns a confidence that occurs, so that >= keeps at least the promised share.
    return float(np.percentile(values[:count], percentile, method="lower", overwrite_input=True))


def point_cloud(
    scene: Reconstruction,
    min_conf_percentile: float = 50.0,
    max_points: int | None = None,
    *,
    source: str = "depth",
    drop_edges: float | None = None,
    seed: int = 0,
) -> PointCloud:
    """The confident pixels of all views as coloured world points.

    Drops the least confident `min_conf_percentile` percent of the valid pixels of the whole scene, then,
    if more than `max_points` are left, a random share of them (the same for the same `seed`).
    `source="head"` takes the points of the point head instead of depth and cameras. `drop_edges=0.1`
    drops pixels whose depth differs by more than 10 % from a direct neighbour's: the veil between a
    near and a far surface. Raises UsageError for options that cannot be met.
    """
    if max_points is not None and max_points < 1:
        raise UsageError(f"max_points must be at least 1, not {max_points}")
    if source not in ("depth", "head"):
        raise UsageError(f"points come from 'depth' or 'head', not {source!r}")
    if source == "head" and scene.head_points is None:
        raise UsageError(
            "this reconstruction has no point-head output; run it with the points head, or use depth"
        )
    conf = _confidence(scene, source)
    threshold = confidence_threshold(scene, min_conf_percentile, source)
    kept = []
    for index in range(len(scene)):
        mask = _view_mask(scene, index, source) & (conf[index] >= threshold)
        if drop_edges is not None:
            mask &= ~depth_edges(scene.z_depth[index], drop_edges)
        kept.append(np.flatnonzero(mask))
    counts = np.array([len(pixels) for pixels in kept])
    if max_points is not None and counts.sum() > max_points:
        kept = _random_share(kept, max_points, seed)
    points = [_view_points(scene, index, source).reshape(-1, 3)[pixels] for index, pixels in enumerate(kept)]
    colours = [scene.images[index].reshape(-1, 3)[pixels] for index, pixels in enumerate(kept)]
    confidence = [conf[index].reshape(-1)[pixels] for index, pixels in enumerate(kept)]
    view_index = np.repeat(np.arange(len(scene), dtype=np.int32), [len(pixels) for pixels in kept])
    return PointCloud(np.concatenate(points), np.concatenate(colours), np.concatenate(confidence), view_index)


def depth_edges(
    z_depth: Float32[np.ndarray, "height width"], tolerance: float
) -> Bool[np.ndarray, "height width"]:
    """True where depth differs from a direct neighbour's by more than `tolerance` of the nearer one."""
    return depth_jumps(z_depth) > tolerance


def depth_jumps(z_depth: Float32[np.ndarray, "height width"]) -> Float32[np.ndarray, "height width"]:
    """The largest difference of depth to a direct neighbour's, as a share of the nearer one.

    inf beside a neighbour without depth.
    """
    jumps = np.zeros_like(z_depth)
    for depth, largest in ((z_depth, jumps), (z_depth.T, jumps.T)):  # rows, then columns
        first, second = depth[:-1], depth[1:]
        nearer = np.minimum(first, second)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            jump = np.abs(second - first) / nearer
            jump[~(nearer > 0) | np.isnan(jump)] = np.inf
        np.maximum(largest[:-1], jump, out=largest[:-1])
        np.maximum(largest[1:], jump, out=largest[1:])
    return jumps


def _confidence(scene: Reconstruction, source: str) -> Float32[np.ndarray, "views height width"]:
    if source == "head" and scene.head_points_conf is not None:
        return scene.head_points_conf
    return scene.depth_conf


def _view_points(scene: Reconstruction, index: int, source: str) -> Float32[np.ndarray, "height width 3"]:
    if source == "head" and scene.head_points is not None:
        return scene.head_points[index]
    return scene.view_points(index)


def _view_mask(scene: Reconstruction, index: int, source: str) -> Bool[np.ndarray, "height width"]:
    if source == "head" and scene.head_points is not None and scene.head_points_conf is not None:
        finite = np.isfinite(scene.head_points[index]).all(-1) & np.isfinite(scene.head_points_conf[index])
        finite &= scene.views[index].transform.content_mask()
        return finite if scene.masked is None else finite & ~scene.masked[index]
    return scene.view_valid(index)


def _random_share(kept: list[np.ndarray], count: int, seed: int) -> list[np.ndarray]:
    offsets = np.concatenate([[0], np.cumsum([len(pixels) for pixels in kept])])
    rng = np.random.default_rng(seed)
    chosen = np.sort(rng.choice(offsets[-1], size=count, replace=False, shuffle=False))
    bounds = np.searchsorted(chosen, offsets)
    return [
        pixels[chosen[bounds[index] : bounds[index + 1]] - offsets[index]]
        for index, pixels in enumerate(kept)
    ]
