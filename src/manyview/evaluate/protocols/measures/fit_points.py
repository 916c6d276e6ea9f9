"""How an estimate's points are brought into the world of the truth; each way is one some paper uses."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float

from ....geometry.align import umeyama
from ....geometry.unproject_np import invert_rigid
from ...metrics.alignment import align_cameras
from .fit_cameras import fit_cameras, fit_norms, moved, square

__all__ = ["POINT_FITS", "PointFit", "fit_points", "moved"]

PointFit = Literal["sim3", "median-z", "box", "cameras", "ransac-cameras", "camera-norms"]
POINT_FITS: tuple[PointFit, ...] = get_args(PointFit)
_CHUNK = 1_000_000


def fit_points(
    found: Float[np.ndarray, "n 3"],
    truth: Float[np.ndarray, "true_n 3"],
    found_cameras: Float[np.ndarray, "views 3 4"],
    true_cameras: Float[np.ndarray, "views 3 4"],
    how: PointFit,
) -> Float[np.ndarray, "4 4"] | None:
    """world_of_truth from world_of_estimate, a similarity, or None where it is not determined.

    - "sim3": least squares over corresponding points (Umeyama 1991).
    - "median-z": both in the frame of their first camera; the median depths there made equal, scale the ratio
      of the median distances from the median of each axis (lower middle values; that of the estimate counts
      as 0.001 to 1000). FastVGGT's criterion.
    - "box": first cameras made equal, scale the ratio of the diagonals of the bounding boxes, whose centres
      are then made equal (points need not correspond).
    - "cameras": the similarity of the camera centres (`align_cameras`), depth is not used.
    - "ransac-cameras": the similarity of most camera centres (`fit_cameras`); points are not used.
    - "camera-norms": the rotation of least squares of the camera centres, and for scale the ratio of their
      norms about their means; points are not used (SpatialBench).

    Not determined: fewer than three points (or, for the last, cameras), points that are all
    one, centres on a line, a first camera that was not given.
    """
    if how not in POINT_FITS:
        raise ValueError(f"points are fitted by one of {', '.join(POINT_FITS)}, not {how!r}")
    if how == "ransac-cameras":
        return fit_cameras(found_cameras, true_cameras)
    if how == "camera-norms":
        return fit_norms(found_cameras, true_cameras)
    if len(found) < 3 or len(truth) < 3:
        return None
    if how == "sim3":
        if np.ptp(found, axis=0).max() <= 1e-12:
            return None
        return square(*umeyama(torch.from_numpy(found), torch.from_numpy(truth)))
    if how == "cameras":
        pair = torch.from_numpy(found_cameras), torch.from_numpy(true_cameras)
        similarity = align_cameras(*pair, depth_scale=1.0, unit=1e-6)
        return None if similarity is None else square(*vars(similarity).values())
    if not np.isfinite(found_cameras[0]).all():
        return None
    # From the estimate's world through the first camera, which both share, into the truth's world.
    first, true_first = (
        np.vstack([c[0].astype(np.float64), [0, 0, 0, 1]]) for c in (found_cameras, true_cameras)
    )
    back = np.vstack([invert_rigid(true_first[:3]), [0, 0, 0, 1]])
    if how == "box":
        both = back @ first
        (low, high), (true_low, true_high) = _box(found, both), _box(truth, np.eye(4))
        size = float(np.linalg.norm(high - low))
        if size <= 1e-12:
            return None
        scale = float(np.linalg.norm(true_high - true_low)) / size
        shift = (true_low + true_high) / 2 - scale * (low + high) / 2
        return _scaled(scale, shift) @ both
    (depth, size), (true_depth, true_size) = _depth_and_size(found, first), _depth_and_size(truth, true_first)
    if size <= 1e-12:
        return None
    scale = true_size / float(np.clip(size, 1e-3, 1e3))
    return back @ _scaled(scale, np.array([0, 0, true_depth - scale * depth])) @ first


def _box(
    points: Float[np.ndarray, "n 3"], matrix: Float[np.ndarray, "4 4"]
) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, " 3"]]:
    """Least and greatest coordinates of moved points, some at a time, as clouds are of many views."""
    parts = (moved(matrix, points[start : start + _CHUNK]) for start in range(0, len(points), _CHUNK))
    low, high = zip(*((part.min(0), part.max(0)) for part in parts))
    return np.min(low, 0), np.max(high, 0)


def _depth_and_size(
    points: Float[np.ndarray, "n 3"], matrix: Float[np.ndarray, "4 4"]
) -> tuple[float, float]:
    """(median z, median distance from the median of each axis) of moved points, in single precision."""
    own = torch.empty(points.shape, dtype=torch.float32)
    for start in range(0, len(points), _CHUNK):
        own[start : start + _CHUNK] = torch.from_numpy(moved(matrix, points[start : start + _CHUNK]))
    middle = torch.stack([own[:, axis].median() for axis in range(3)])
    own -= middle
    return float(middle[2]), float(own.norm(dim=1).median())


def _scaled(scale: float | np.floating, shift: Float[np.ndarray, " 3"]) -> np.ndarray:
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = shift
    return matrix
