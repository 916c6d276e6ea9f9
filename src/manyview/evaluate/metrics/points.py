"""Accuracy, completeness, normal consistency, Chamfer distance and F-score of point clouds.

Sources: DTU (Jensen et al., CVPR 2014) and NRGBD (Azinovic et al., CVPR 2022) for Acc, Comp and NC;
Tanks and Temples (Knapitsch et al., 2017) for the F-score. numpy and scipy's KD-tree.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from .nearest import nearest


@dataclass(frozen=True)
class CloudErrors:
    """Distances in the unit of the truth; NC in [0, 1]; F-score, precision and recall in percent.

    `chamfer` is the sum of both mean distances (ScanNet-50's CD), `overall` their mean (DTU's). Figures
    that need normals are None without them.
    """

    accuracy_mean: float
    accuracy_median: float
    completeness_mean: float
    completeness_median: float
    nc_mean: float | None = None
    nc_median: float | None = None
    f_score: dict[float, float] = field(default_factory=dict)
    precision: dict[float, float] = field(default_factory=dict)
    recall: dict[float, float] = field(default_factory=dict)

    @property
    def chamfer(self) -> float:
        return self.accuracy_mean + self.completeness_mean

    @property
    def overall(self) -> float:
        return self.chamfer / 2


def cloud_errors(
    found: Float[np.ndarray, "n 3"],
    truth: Float[np.ndarray, "m 3"],
    found_normals: Float[np.ndarray, "n 3"] | None = None,
    truth_normals: Float[np.ndarray, "m 3"] | None = None,
    thresholds: tuple[float, ...] = (),
    clip: float | None = None,
    workers: int = -1,
) -> CloudErrors | None:
    """Compare clouds by nearest neighbours in both directions; every point finite.

    `thresholds` are distances of the F-score, `clip` bounds each distance before it is averaged (strict
    thresholds and medians see the bounded distances too). None without a true point (nothing to compare) and,
    without `clip`, without a found one; with `clip` every distance is then `clip`. NC = (NC1 + NC2) / 2 with
    NC1 of |n . n'| at each found point and its nearest true one, NC2 in the other direction.
    """
    if not len(truth) or (not len(found) and clip is None):
        return None
    if not len(found):
        assert clip is not None
        zeros = dict.fromkeys(thresholds, 0.0)
        return CloudErrors(clip, clip, clip, clip, None, None, dict(zeros), dict(zeros), dict(zeros))
    there, match = nearest(found, truth, workers)
    back, back_match = nearest(truth, found, workers)
    if clip is not None:
        there, back = there.clip(max=clip), back.clip(max=clip)
    nc_mean = nc_median = None
    if found_normals is not None and truth_normals is not None:
        one = np.abs((found_normals * truth_normals[match]).sum(-1))
        two = np.abs((truth_normals * found_normals[back_match]).sum(-1))
        nc_mean = float(one.mean() + two.mean()) / 2
        nc_median = float(np.median(one) + np.median(two)) / 2
    precision = {t: 100.0 * float((there < t).mean()) for t in thresholds}
    recall = {t: 100.0 * float((back < t).mean()) for t in thresholds}
    return CloudErrors(
        accuracy_mean=float(there.mean()),
        accuracy_median=float(np.median(there)),
        completeness_mean=float(back.mean()),
        completeness_median=float(np.median(back)),
        nc_mean=nc_mean,
        nc_median=nc_median,
        f_score={t: _harmonic(precision[t], recall[t]) for t in thresholds},
        precision=precision,
        recall=recall,
    )


def _harmonic(a: float, b: float) -> float:
    """Zero where both are."""
    return 2 * a * b / (a + b) if a + b > 0 else 0.0
