"""The Chamfer distance to a scene's mesh, as FastVGGT's ScanNet-50 script takes it."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np

from ...metrics.nearest import draw, thin
from ...metrics.points import cloud_errors
from ..scene_pair import Figures, Needs, ScenePair
from .fit_points import PointFit, fit_points, moved


@dataclasses.dataclass(frozen=True)
class CloudChamfer:
    """`cd` = mean(found to true) + mean(true to found), distances at most `clip`, with its two parts.

    Points from depth and cameras with a confidence of at least `least_confidence`, all of them fitted by
    `fit`; then at most `most` of each cloud, drawn by numpy's legacy generator begun anew with `seed`, and
    thinned to cubes of side `voxel`. The truth is the scene's cloud, else the points of its depth
    (`cd_from_mesh` 0). None without either. An estimate without a usable point has every distance `clip`.
    """

    needs: ClassVar[Needs] = "points"

    fit: PointFit = "box"
    least_confidence: float = 3.0
    most: int = 100_000
    voxel: float = 0.05
    clip: float = 0.5
    seed: int = 33

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        truth = pair.measured_points
        if truth is None:
            return {"cd": None, "cd_accuracy": None, "cd_completeness": None, "cd_from_mesh": 0.0}
        voxel = self.voxel * pair.per_metre
        sure = pair.seen & (pair.confidence >= self.least_confidence)
        found = pair.found_points[sure & np.isfinite(pair.found_points).all(-1)]
        matrix = fit_points(found, truth, pair.found_cameras, pair.true_cameras, self.fit)
        drawn, true = (points[draw(len(points), self.most, self.seed, True)] for points in (found, truth))
        own = np.zeros((0, 3)) if matrix is None else thin(moved(matrix, drawn), voxel)
        true = thin(true.astype(np.float64), voxel)
        errors = cloud_errors(own, true, clip=self.clip * pair.per_metre, workers=workers)
        assert errors is not None  # clipped distances always exist
        return {
            "cd": errors.chamfer,
            "cd_accuracy": errors.accuracy_mean,
            "cd_completeness": errors.completeness_mean,
            "cd_from_mesh": float(pair.cloud is not None),
        }
