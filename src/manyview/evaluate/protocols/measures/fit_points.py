"""How an estimate's points are brought into the world of the truth; each way is one some paper uses."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Float

from ....geometry.align import umeyama
from ....geometry.unproject_np import invert_rigid
from ...metrics.alignment import align_cameras

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
    - "ransac-cameras": of ten similarities, each of half the camera centres, the one with the least median
      error over all; points are not used.

    Not determined: fewer than three points (or, for the last, cameras), points that are all
    one, centres on a line, a first camera that was not given.
    """
    if how not in POINT_FITS:
        raise ValueError(f"points are fitted by one of {', '.join(POINT_FITS)}, not {how!r}")
    if how == "ransac-cameras":
        return _fit_some_cameras(found_cameras, true_cameras)
    if len(found) < 3 or len(truth) < 3:
        return None
    found, truth = found.astype(np.float64), truth.astype(np.float64)
    if how == "sim3":
        if np.ptp(found, axis=0).max() <= 1e-12:
            return None
        return _square(*umeyama(torch.from_numpy(found), torch.from_numpy(truth)))
    if how == "cameras":
        pair = torch.from_numpy(found_cameras), torch.from_numpy(true_cameras)
        similarity = align_cameras(*pair, depth_scale=1.0, unit=1e-6)
        return None if similarity is None else _square(*vars(similarity).values())
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


def _fit_some_cameras(
    found_cameras: Float[np.ndarray, "views 3 4"], true_cameras: Float[np.ndarray, "views 3 4"]
) -> Float[np.ndarray, "4 4"] | None:
    """As Depth Anything 3's benchmark does: ten draws of half the views (three at least), seed 42. The paper
    does not say how the best is chosen; here by its median error."""
    given = np.isfinite(found_cameras).all((1, 2)) & np.isfinite(true_cameras).all((1, 2))
    own, true = (invert_rigid(c[given].astype(np.float64))[:, :, 3] for c in (found_cameras, true_cameras))
    generator = np.random.default_rng(42)
    best: tuple[float, np.ndarray] | None = None
    for _ in range(10):
        some = generator.permutation(len(own))[: max(3, len(own) // 2)]
        if len(some) < 3 or _on_a_line(own[some]) or _on_a_line(true[some]):
            continue
        matrix = _square(*umeyama(torch.from_numpy(own[some]), torch.from_numpy(true[some])))
        error = float(np.median(np.linalg.norm(moved(matrix, own) - true, axis=1)))
        if np.isfinite(matrix).all() and matrix[:3, :3].any() and (best is None or error < best[0]):
            best = error, matrix
    return None if best is None else best[1]


def _on_a_line(centres: Float[np.ndarray, "n 3"]) -> bool:
    """Or in one place: the rotation is then open."""
    extents = np.linalg.svd(centres - centres.mean(0), compute_uv=False)
    return bool(extents[1] <= max(1e-2 * extents[0], 1e-12))


def _scaled(scale: float | np.floating, shift: Float[np.ndarray, " 3"]) -> np.ndarray:
    matrix = np.diag([scale, scale, scale, 1.0])
    matrix[:3, 3] = shift
    return matrix


def _square(scale: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = float(scale) * rotation.numpy()
    matrix[:3, 3] = translation.numpy()
    return matrix


def moved(matrix: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Points after a similarity, in float64."""
    return points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
