"""F-score of the surface that an estimate's depth and cameras make when they are fused."""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float

from ....geometry.unproject_np import invert_rigid
from ...metrics.nearest import draw, draw_on_mesh, thin
from ...metrics.points import cloud_errors
from ...metrics.tsdf import TsdfOptions, fuse
from ..scene_pair import Figures, Needs, ScenePair
from .fit_points import PointFit, fit_points


@dataclasses.dataclass(frozen=True)
class FusedSurface:
    """`surface_f_T`, `surface_precision_T`, `surface_recall_T` in percent for each of `thresholds`, and
    `surface_accuracy`, `surface_completeness`, `surface_overall` (half their sum).

    Depth is scaled and cameras are moved by `fit`, fused by TSDF (`voxel`, `truncation`, no depth beyond
    `farthest`, None: all of it), at most `most` points of the surface drawn with `seed` and thinned to the
    voxel. Of a view with true depth only pixels that have some are fused (`masked` False: all). The truth is
    `most` points of the scene's mesh by area, else its cloud (`surface_from_mesh` 0), else so many points of
    its depth (`surface_from_cloud` 0), thinned alike. With `margin` points farther than that outside of the
    truth's box are left out of the estimate. Lengths are metres. `surface_voxel` is what was used where a
    finer one would not fit in memory. All figures are None without a true point, or where cameras were found
    and the fit is not determined; an estimate of no camera or no depth has an F-score of 0 and no distances.

    `cameras` "true": depth is scaled by the fit and fused with the true cameras and intrinsics. `thinned`:
    side of the cubes to which both are thinned, the origin a corner of one (None: the voxel). `of_cloud`:
    None without a mesh or cloud of the scene, whatever depth it has, and at most `most` points of a cloud.
    """

    needs: ClassVar[Needs] = "points"

    voxel: float = 4 / 512
    truncation: float = 0.04
    thresholds: tuple[float, ...] = (0.05,)
    fit: PointFit = "ransac-cameras"
    farthest: float | None = None
    margin: float | None = None
    most: int = 1_000_000
    seed: int = 42
    cameras: Literal["found", "true"] = "found"
    thinned: float | None = None
    of_cloud: bool = False
    masked: bool = True
    prefix: str = ""

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        return {self.prefix + name: value for name, value in self._figures(pair, workers).items()}

    def _figures(self, pair: ScenePair, workers: int) -> Figures:
        shares = [f"surface_{kind}_{t:g}" for kind in ("f", "precision", "recall") for t in self.thresholds]
        distances = ("surface_accuracy", "surface_completeness", "surface_overall")
        result: Figures = {name: None for name in (*shares, *distances, "surface_points", "surface_voxel")}
        truth = pair.cloud if self.of_cloud else pair.measured_points
        result["surface_from_cloud"] = float(pair.cloud is not None)
        result["surface_from_mesh"] = float(pair.triangles is not None and len(pair.triangles) > 0)
        if truth is None or (self.cameras == "true" and pair.true_intrinsics is None):
            return result
        given = np.isfinite(pair.found_cameras).all((1, 2)) & np.isfinite(pair.found_depth).any((1, 2))
        if pair.found_intrinsics is None or not given.any():
            return result | dict.fromkeys(shares, 0.0) | {"surface_points": 0.0}
        matrix = self._fit(pair)
        if matrix is None:
            return result
        metre = pair.per_metre
        surface = fuse(
            *_moved(pair, matrix, self.cameras == "true", self.masked),
            TsdfOptions(
                self.voxel * metre,
                self.truncation * metre,
                math.inf if self.farthest is None else self.farthest * metre,
            ),
        )
        if result["surface_from_mesh"] and pair.triangles is not None:
            true = draw_on_mesh(truth, pair.triangles, self.most, self.seed)
        else:
            whole = result["surface_from_cloud"] and not self.of_cloud
            most = None if whole else self.most
            true = truth[draw(len(truth), most, self.seed)].astype(np.float64)
        found = surface.points.numpy()
        found = found[draw(len(found), self.most, self.seed)]
        if self.margin is not None:
            low, high = true.min(0) - self.margin * metre, true.max(0) + self.margin * metre
            found = found[((found >= low) & (found <= high)).all(1)]
        side = surface.voxel if self.thinned is None else self.thinned * metre
        found, true = (thin(points, side, self.thinned is not None) for points in (found, true))
        result |= {"surface_points": float(len(found)), "surface_voxel": surface.voxel}
        errors = cloud_errors(
            found,
            true,
            thresholds=tuple(t * metre for t in self.thresholds),
            workers=workers,
        )
        if errors is None:
            return result | dict.fromkeys(shares, 0.0)
        values = (errors.f_score, errors.precision, errors.recall)
        result |= dict(zip(shares, (by[t * metre] for by in values for t in self.thresholds)))
        return result | dict(zip(distances, (errors.accuracy_mean, errors.completeness_mean, errors.overall)))

    def _fit(self, pair: ScenePair) -> Float[np.ndarray, "4 4"] | None:
        """By cameras alone, or by the pixels that both have."""
        own, true = np.zeros((0, 3)), np.zeros((0, 3))
        if pair.true_points is not None and pair.found_points.shape == pair.true_points.shape:
            both = np.isfinite(pair.found_points).all(-1) & np.isfinite(pair.true_points).all(-1) & pair.seen
            own, true = pair.found_points[both], pair.true_points[both]
        return fit_points(own, true, pair.found_cameras, pair.true_cameras, self.fit)


def _moved(
    pair: ScenePair, matrix: Float[np.ndarray, "4 4"], true_cameras: bool, masked: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Depth, cameras and intrinsics in the truth's world and scale."""
    scale = float(np.cbrt(np.linalg.det(matrix[:3, :3])))
    kept = pair.seen
    if masked and pair.true_depth is not None:
        measured = np.isfinite(pair.true_depth)
        kept = kept & (measured | ~measured.any((1, 2), keepdims=True))
    depth = torch.from_numpy(np.where(kept, pair.found_depth, np.nan)) * scale
    if true_cameras and pair.true_intrinsics is not None:
        return depth, torch.from_numpy(pair.true_cameras), torch.from_numpy(pair.true_intrinsics)
    rotation, translation = matrix[:3, :3] / scale, matrix[:3, 3]
    given = np.isfinite(pair.found_cameras).all((1, 2), keepdims=True)
    poses = invert_rigid(np.where(given, pair.found_cameras, np.nan).astype(np.float64))
    centres = poses[:, :, 3] @ matrix[:3, :3].T + translation
    cameras = invert_rigid(np.concatenate([rotation @ poses[:, :, :3], centres[:, :, None]], -1))
    assert pair.found_intrinsics is not None
    return depth, torch.from_numpy(cameras), torch.from_numpy(pair.found_intrinsics)
