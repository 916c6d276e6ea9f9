"""Each view's predicted depth against the points that it observes: one scale, and a shift where that pays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64

from ..geometry.unproject_np import project
from ..reconstruction.result.result import Reconstruction
from ..reconstruction.result.tracks import Tracks

LEAST_POINTS = 10
"""Observed points from which a view has a scale of its own."""
_LEAST_FOR_SHIFT = 40
_SHIFT_GAIN = 0.8
"""A shift pays where this share of the residual is left, or less, in every quarter of the image, fitted
to the other three."""
_SLOPES = (1 / 3, 3.0)  # of a line, of the scale alone; beyond, few points decide over all other pixels


@dataclasses.dataclass(frozen=True, eq=False)
class PointDepths:
    """Depth of the points that one view observes: as the network predicts it, and as it is triangulated.

    `quarter` is the part of the image that each is in, 0 to 3.
    """

    predicted: Float64[np.ndarray, " n"]
    triangulated: Float64[np.ndarray, " n"]
    quarter: Int64[np.ndarray, " n"]

    def select(self, kept: Bool[np.ndarray, " n"]) -> PointDepths:
        """Some of the points."""
        return PointDepths(self.predicted[kept], self.triangulated[kept], self.quarter[kept])


@dataclasses.dataclass(frozen=True)
class DepthFit:
    """Depth of a view becomes `scale` times the predicted one plus `shift`, about `ratio` times as much.

    `residual` is the median relative difference to the triangulated points afterwards, None where there are
    too few: the scale is then that of the other views (`own` is False).
    """

    scale: float
    shift: float
    ratio: float
    residual: float | None
    points: int
    own: bool = True


def depth_at_points(
    scene: Reconstruction, tracks: Tracks, cam_from_world: Float64[np.ndarray, "views 3 4"]
) -> list[PointDepths]:
    """Both depths of every observation, by view, where the network's is valid.

    Args:
        scene: What the network predicted.
        tracks: Points in the world of `cam_from_world`, pixels in the network images.
        cam_from_world: Refined cameras; NaN for views without one, which get nothing.
    """
    found = []
    order = np.argsort(tracks.view_index, kind="stable")
    bounds = np.searchsorted(tracks.view_index[order], np.arange(len(scene) + 1))
    for view, camera in enumerate(cam_from_world):
        own = order[bounds[view] : bounds[view + 1]]
        _, z = project(tracks.points[tracks.point_index[own]], camera, np.eye(3))
        column, row = np.floor(tracks.pixels[own]).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < scene.width) & (row < scene.height)
        column, row = np.where(inside, column, 0), np.where(inside, row, 0)
        predicted = scene.z_depth[view][row, column].astype(np.float64)
        with np.errstate(invalid="ignore"):
            usable = inside & scene.view_valid(view)[row, column] & (z > 0)
        x, y = tracks.pixels[own][usable].T
        quarter = (x > scene.width / 2) + 2 * (y > scene.height / 2).astype(np.int64)
        found.append(PointDepths(predicted[usable], z[usable], quarter))
    return found


def world_scale(depths: Sequence[PointDepths]) -> float | None:
    """Units of the network's world in one unit of the points: the median over views; None without depth."""
    own = [_log_ratio(one) for one in depths if len(one.predicted) >= LEAST_POINTS]
    own = own or [_log_ratio(one) for one in depths if len(one.predicted)]
    return float(np.exp(-np.median(own))) if own else None


def fit_depths(
    depths: Sequence[PointDepths], z_depth: Float32[np.ndarray, "views height width"]
) -> list[DepthFit]:
    """How each view's depth is to be changed, `depths` and cameras being in one world.

    A view without enough points takes the median scale of the others (1 if there are none).
    """
    fits = [
        _fit(one, z_depth[view]) if len(one.predicted) >= LEAST_POINTS else None
        for view, one in enumerate(depths)
    ]
    ratios = [fit.ratio for fit in fits if fit is not None]
    usual = float(np.exp(np.median(np.log(ratios)))) if ratios else 1.0
    return [
        DepthFit(usual, 0.0, usual, None, len(one.predicted), own=False) if fit is None else fit
        for one, fit in zip(depths, fits, strict=True)
    ]


def residual(depths: PointDepths, scale: float = 1.0, shift: float = 0.0) -> float:
    """Median relative difference of depth to the triangulated points."""
    error = scale * depths.predicted + shift - depths.triangulated
    return float(np.median(np.abs(error) / depths.triangulated))


def with_fitted_depth(
    z_depth: Float32[np.ndarray, "height width"], fit: DepthFit
) -> Float32[np.ndarray, "height width"]:
    """Depth of one view; what is no depth stays none."""
    with np.errstate(invalid="ignore", over="ignore"):
        changed = z_depth * np.float32(fit.scale)
        return np.where(z_depth > 0, changed + np.float32(fit.shift), changed).astype(np.float32)


def _log_ratio(depths: PointDepths) -> float:
    return float(np.median(np.log(depths.triangulated / depths.predicted)))


def _fit(depths: PointDepths, z_depth: Float32[np.ndarray, "height width"]) -> DepthFit:
    count, scale = len(depths.predicted), float(np.exp(_log_ratio(depths)))
    alone = DepthFit(scale, 0.0, scale, residual(depths, scale), count)
    if count < _LEAST_FOR_SHIFT:
        return alone
    # Of other parts of the image: points near each other are wrong in the same way.
    quarters = [depths.quarter == number for number in range(4)]
    if min(int(quarter.sum()) for quarter in quarters) < LEAST_POINTS:
        return alone
    with_shift = [_elsewhere(depths, quarter, True) for quarter in quarters]
    without = [_elsewhere(depths, quarter, False) for quarter in quarters]
    pays = all(one <= _SHIFT_GAIN * other for one, other in zip(with_shift, without, strict=True))
    slope, shift = _line(depths)
    if not pays or not _SLOPES[0] <= slope / scale <= _SLOPES[1]:
        return alone
    positive = z_depth[np.isfinite(z_depth) & (z_depth > 0)]
    nearest = float(positive.min()) if positive.size else 0.0
    if slope * nearest + shift <= 0.2 * scale * nearest:
        return alone
    return DepthFit(slope, shift, scale, residual(depths, slope, shift), count)


def _elsewhere(depths: PointDepths, quarter: Bool[np.ndarray, " n"], with_shift: bool) -> float:
    """Residual in one quarter of the image of a fit to the others."""
    fitted = depths.select(~quarter)
    line = _line(fitted) if with_shift else (float(np.exp(_log_ratio(fitted))),)
    return residual(depths.select(quarter), *line)


def _line(depths: PointDepths) -> tuple[float, float]:
    """(slope, shift) of the least absolute relative differences, by reweighted least squares."""
    columns = np.stack([depths.predicted, np.ones_like(depths.predicted)], axis=-1)
    columns = columns / depths.triangulated[:, None]
    weights: Float[np.ndarray, " n"] = np.ones(len(columns))
    found = np.array([1.0, 0.0])
    for _ in range(30):
        weighted = columns * weights[:, None]
        found = np.linalg.lstsq(weighted, weights, rcond=None)[0]
        weights = 1 / np.sqrt(np.maximum(np.abs(columns @ found - 1), 1e-4))
    return float(found[0]), float(found[1])
