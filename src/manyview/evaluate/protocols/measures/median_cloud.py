"""Medians of the distances between the clouds of all pixels, as FlashVGGT's script takes them."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float

from ....geometry.unproject_np import camera_centres
from ...metrics.nearest import draw, estimate_normals, icp, nearest
from ..scene_pair import Figures, Needs, ScenePair
from .first_camera import first_view, scene_scales


@dataclasses.dataclass(frozen=True)
class MedianCloud:
    """`accuracy_median`, `completeness_median`, `cd_median` (half their sum) and `nc_paired`.

    Each side is moved to its first camera and divided by its mean scene distance (`scene_scales`). Every
    pixel counts: where there is no true depth it is 0, and the true point its camera's centre. Of even counts
    the lower of both middle values is the median. `nc_paired` is the mean of abs(n . n') of the two points of
    each pixel, normals of `normals` neighbours, the estimate refined by ICP (radius `icp` mean distances),
    which no distance sees. Above `most` pixels so many are drawn with `seed`, the same of both clouds. All
    figures are None without a mean distance or three points.
    """

    needs: ClassVar[Needs] = "points"

    icp: float = 0.05
    normals: int = 30
    most: int = 1_000_000
    seed: int = 42

    def figures(self, pair: ScenePair, workers: int = -1) -> Figures:
        names = ("accuracy_median", "completeness_median", "cd_median", "nc_paired", "points_compared")
        scales, first = scene_scales(pair), first_view(pair)
        at = np.flatnonzero(pair.seen & np.isfinite(pair.found_points).all(-1))
        if scales is None or pair.true_points is None or len(at) < 3:
            return {**dict.fromkeys(names), "points_compared": 0.0}
        at = at[draw(len(at), self.most, self.seed)]
        own, true = (x.reshape(-1, 3)[at].astype(np.float64) for x in (pair.found_points, pair.true_points))
        unknown = ~np.isfinite(true).all(-1)
        true[unknown] = camera_centres(pair.true_cameras)[at[unknown] // pair.seen[0].size]
        own = _moved(own, pair.found_cameras[first]) / scales[0]
        true = _moved(true, pair.true_cameras[first]) / scales[1]
        there, back = (
            float(torch.from_numpy(nearest(a, b, workers)[0]).median()) for a, b in ((own, true), (true, own))
        )
        refined = icp(own, true, self.icp, workers=workers)(own)
        one, two = (estimate_normals(points, self.normals, workers) for points in (refined, true))
        paired = float(np.abs((one * two).sum(-1)).mean())
        return dict(zip(names, (there, back, (there + back) / 2, paired, float(len(own)))))


def _moved(
    points: Float[np.ndarray, "n 3"], cam_from_world: Float[np.ndarray, "3 4"]
) -> Float[np.ndarray, "n 3"]:
    camera = cam_from_world.astype(np.float64)
    return points.astype(np.float64) @ camera[:, :3].T + camera[:, 3]
