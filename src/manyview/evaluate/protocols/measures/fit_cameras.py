"""The similarity of camera centres, as Depth Anything 3's benchmark and SpatialBench find it."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float

from ....geometry.align import umeyama
from ....geometry.unproject_np import invert_rigid

_DRAWS = 10
_SEED = 42


def fit_cameras(
    found_cameras: Float[np.ndarray, "views 3 4"], true_cameras: Float[np.ndarray, "views 3 4"]
) -> Float[np.ndarray, "4 4"] | None:
    """world_of_truth from world_of_estimate of `cam_from_world` cameras; None where it is not determined.

    Ten similarities by least squares, each of half the cameras (three at least). A camera fits one if its
    centre is no farther from its true one than the median distance to the *nearest* true centre after the
    similarity of all. The similarity that most cameras fit is taken, of equal ones that with the smaller mean
    distance of these, and fitted once more to them. Not determined: fewer than three cameras, centres on a
    line.
    """
    given = np.isfinite(found_cameras).all((1, 2)) & np.isfinite(true_cameras).all((1, 2))
    own, true = (invert_rigid(c[given].astype(np.float64))[:, :, 3] for c in (found_cameras, true_cameras))
    of_all = _similarity(own, true)
    if of_all is None:
        return None
    apart = np.linalg.norm(moved(of_all, own)[:, None] - true, axis=-1)
    radius = float(np.median(apart.min(1)))
    generator = np.random.default_rng(_SEED)
    best: tuple[int, float, Bool[np.ndarray, " n"], Float[np.ndarray, "4 4"]] | None = None
    for _ in range(_DRAWS):
        some = generator.choice(len(own), max(3, -(-len(own) // 2)), replace=False)
        matrix = _similarity(own[some], true[some])
        if matrix is None:
            continue
        errors = np.linalg.norm(moved(matrix, own) - true, axis=1)
        fits = errors <= radius
        mean = float(errors[fits].mean()) if fits.any() else np.inf
        if best is None or (int(fits.sum()), -mean) > (best[0], -best[1]):
            best = int(fits.sum()), mean, fits, matrix
    if best is None:
        return None
    refitted = _similarity(own[best[2]], true[best[2]])
    return best[3] if refitted is None else refitted


def fit_norms(
    found_cameras: Float[np.ndarray, "views 3 4"], true_cameras: Float[np.ndarray, "views 3 4"]
) -> Float[np.ndarray, "4 4"] | None:
    """world_of_truth from world_of_estimate of `cam_from_world` cameras, as SpatialBench has it.

    The rotation is that of least squares of the centres, the scale the ratio of the norms of all centres
    about their means (1 for an estimate that does not move). None where the truth does not move.
    """
    given = np.isfinite(found_cameras).all((1, 2)) & np.isfinite(true_cameras).all((1, 2))
    own, true = (invert_rigid(c[given].astype(np.float64))[:, :, 3] for c in (found_cameras, true_cameras))
    if len(own) < 2 or np.ptp(true, axis=0).max() <= 1e-12:
        return None
    own_mean, true_mean = own.mean(0), true.mean(0)
    u, _, vt = np.linalg.svd((true - true_mean).T @ (own - own_mean))
    rotation = u @ np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))]) @ vt
    size = np.linalg.norm(own - own_mean)
    scale = np.linalg.norm(true - true_mean) / size if size >= 1e-8 else 1.0
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = scale * rotation, true_mean - scale * rotation @ own_mean
    return matrix


def _similarity(
    own: Float[np.ndarray, "n 3"], true: Float[np.ndarray, "n 3"]
) -> Float[np.ndarray, "4 4"] | None:
    """By least squares; None of fewer than three centres, or of centres on a line or in one place."""
    if len(own) < 3:
        return None
    covariance = (true - true.mean(0)).T @ (own - own.mean(0))
    extents = np.linalg.svd(covariance, compute_uv=False)
    if not np.isfinite(extents).all() or extents[1] <= 1e-9 * extents[0]:
        return None
    return square(*umeyama(torch.from_numpy(own), torch.from_numpy(true)))


def square(scale: torch.Tensor, rotation: torch.Tensor, translation: torch.Tensor) -> np.ndarray:
    """A similarity as a matrix [4, 4]."""
    matrix = np.eye(4)
    matrix[:3, :3] = float(scale) * rotation.numpy()
    matrix[:3, 3] = translation.numpy()
    return matrix


def moved(matrix: Float[np.ndarray, "4 4"], points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
    """Points after a similarity, in float64."""
    return points.astype(np.float64) @ matrix[:3, :3].T + matrix[:3, 3]
