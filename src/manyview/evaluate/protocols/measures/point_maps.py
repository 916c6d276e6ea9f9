"""Acc, Comp, NC, Chamfer and F-score of point maps against those of the truth's depth."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, Literal

import numpy as np
from jaxtyping import Bool

from ...metrics.nearest import draw, estimate_normals, icp
from ...metrics.points import cloud_errors
from ..scene_pair import Figures, Needs, ScenePair
from .fit_points import PointFit, fit_points, moved

_FIGURES = {
    "accuracy": "accuracy_mean",
    "accuracy_median": "accuracy_median",
    "completeness": "completeness_mean",
    "completeness_median": "completeness_median",
    "nc": "nc_mean",
    "nc_median": "nc_median",
    "chamfer": "chamfer",
    "overall": "overall",
}
"""Names of figures, and those of `CloudErrors`."""


@dataclasses.dataclass(frozen=True)
class PointMaps:
    """Points of the estimate and of the truth at the same pixels: fitted, refined by ICP, compared.

    `points`: from depth and cameras, or the network's own ("head"; from depth where there are none, and
    `from_head` is 0). All are fitted; then `crop` keeps the centre square of this side in pixels. At most
    `most` pixels are compared (None: all), drawn with `seed`, or of estimate and truth `independent` ones.
    `icp` is the threshold of point-to-point ICP in metres (None: none), which moves by at most `icp_most` of
    the points (None: all). `normals`: neighbours of
    a normal, 0 without NC. `thresholds` of the F-score, in metres. All figures are None without true points
    or where the fit is not determined. Pixels where the estimate is not finite are left out and counted in
    `points_missing` (percent).
    """

    needs: ClassVar[Needs] = "points"

    points: Literal["depth", "head"] = "depth"
    fit: PointFit = "sim3"
    icp: float | None = 0.1
    crop: int | None = None
    most: int | None = None
    independent: bool = False
    normals: int = 30
    thresholds: tuple[float, ...] = ()
    icp_most: int | None = None
    seed: int = 0

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        names = [*_FIGURES, *(f"f_score_{t:g}" for t in self.thresholds), "points_missing", "icp_fitness"]
        nothing: Figures = {**dict.fromkeys(names), "points_compared": 0.0}
        if pair.true_points is None:
            return nothing
        head = self.points == "head" and pair.head_points is not None
        found = pair.head_points if head and pair.head_points is not None else pair.found_points
        wanted = np.isfinite(pair.true_points).all(-1) & pair.seen
        inside = _centre(pair.seen, self.crop)[wanted]
        if not inside.any():
            return nothing
        own, true = found[wanted], pair.true_points[wanted]
        usable = np.isfinite(own).all(-1)
        missing = 100.0 * float(1 - usable[inside].mean())
        cameras = pair.found_cameras, pair.true_cameras
        matrix = fit_points(own[usable], true[usable], *cameras, self.fit)
        own, true = own[usable & inside], true[usable & inside]
        if matrix is None or len(own) < 3:
            return {**nothing, "points_missing": missing}
        chosen = draw(len(own), self.most, self.seed)
        others = draw(len(own), self.most, self.seed + 1) if self.independent else chosen
        own, true = moved(matrix, own[chosen]), true[others].astype(np.float64)
        fitness = None
        if self.icp is not None:
            moving = own[draw(len(own), self.icp_most, self.seed)]
            refined = icp(moving, true, self.icp * pair.per_metre, workers=workers)
            own, fitness = refined(own), refined.fitness
        one, two = (estimate_normals(p, self.normals, workers) if self.normals else None for p in (own, true))
        thresholds = tuple(t * pair.per_metre for t in self.thresholds)
        errors = cloud_errors(own, true, one, two, thresholds, workers=workers)
        assert errors is not None  # there are at least three points of each
        result: Figures = {name: getattr(errors, field) for name, field in _FIGURES.items()}
        result |= {f"f_score_{t:g}": errors.f_score[t * pair.per_metre] for t in self.thresholds}
        result |= {"points_missing": missing, "icp_fitness": fitness, "points_compared": float(len(own))}
        return result | ({"from_head": float(head)} if self.points == "head" else {})


def _centre(
    seen: Bool[np.ndarray, "views height width"], side: int | None
) -> Bool[np.ndarray, "views height width"]:
    """What is seen within the centre square of this side."""
    if side is None:
        return seen
    height, width = seen.shape[1:]
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    mask = np.zeros_like(seen)
    mask[:, top : top + side, left : left + side] = True
    return mask & seen
