"""How an estimate's points are brought into the world of the truth; each way is one some paper uses."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float

from ....geometry.align import umeyama
from ....geometry.unproject_np import invert_rigid
from ...metrics.alignment import align_cameras
from .fit_cameras import fit_cameras, moved, square

__all__ = ["POINT_FITS", "PointFit", "fit_points", "moved"]

PointFit = Literal["sim3", "median", "scale", "box", "cameras", "ransac-cameras"]
POINT_FITS: tuple[PointFit, ...] = get_args(PointFit)


def fit_points(
    found: Float[np.ndarray, "n 3"],
    truth: Float[np.ndarray, "true_n 3"],
    found_cameras: Float[np.ndarray, "views 3 4"],
    true_cameras: Float[np.ndarray, "views 3 4"],
    how: PointFit,
) -> Float[np.ndarray, "4 4"] | None:
    """world_of_truth from world_of_estimate, a similarity, or None where it is not determined.

    - "sim3": least squares over corresponding points (Umeyama 1991).
    - "median": both in the frame of their first camera; median centres made equal, scale the ratio of the
      median distances from there.
    - "scale": first cameras made equal, scale the ratio of the median distances from it.
    - "box": first cameras made equal, scale the ratio of the diagonals of the bounding boxes, whose centres
      are then made equal (points need not correspond).
    - "cameras": the similarity of the camera centres (`align_cameras`), depth is not used.
    - "ransac-cameras": the similarity of most camera centres (`fit_cameras`); points are not used.

    Not determined: fewer than three points (or, for the last, cameras), points that are all
    one, centres on a line, a first camera that was not given.
    """
    if how not in POINT_FITS:
        raise ValueError(f"points are fitted by one of {', '.join(POINT_FITS)}, not {how!r}")
    if how == "ransac-cameras":
        return fit_cameras(found_cameras, true_cameras)
    if len(found) < 3 or len(truth) < 3:
        return None
    found, truth = found.astype(np.float64), truth.astype(np.float64)
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
        moved = found @ both[:3, :3].T + both[:3, 3]
        low, high, true_low, true_high = moved.min(0), moved.max(0), truth.min(0), truth.max(0)
        size = np.linalg.norm(high - low)
        if size <= 1e-12:
            return None
        scale = np.linalg.norm(true_high - true_low) / size
        shift = (true_low + true_high) / 2 - scale * (low + high) / 2
        return _scaled(scale, shift) @ both
    own = found @ first[:3, :3].T + first[:3, 3]
    true = truth @ true_first[:3, :3].T + true_first[:3, 3]
    centre, true_centre = np.zeros(3), np.zeros(3)
    if how == "median":
        centre, true_centre = np.median(own, axis=0), np.median(true, axis=0)
    size, true_size = (
        np.median(np.linalg.norm(points - middle, axis=1))
        for points, middle in ((own, centre), (true, true_centre))
    )
    if size <= 1e-12:
        return None
    return back @ _scaled(true_size / size, true_centre - true_size / size * centre) @ first


def _scaled(scale: float | np.floating, shift: Float[np.ndarray, " 3"]) -> np.ndarray:
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = shift
    return matrix
