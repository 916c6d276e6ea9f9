"""Which views are compared, and between which depths is searched."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int

from ...geometry.unproject_np import camera_centres, project
from ...reconstruction.result.result import Reconstruction

_BEST_ANGLE_DEG = 8.0  # between rays: below it depth is uncertain, far above it patches look different
_SPREAD_DEG = (4.0, 12.0)  # below and above the best angle
_LEAST_SCORE = 2.0  # of a neighbour, about so many points at the best angle
_LEAST_POINTS = 8
_PERCENTILES = (1.0, 99.0)
_NEARER, _FARTHER = 1.35, 1.6  # beyond the percentiles: textureless places have no tracks
_DEPTH_POINTS = 400  # of each view, where there are no tracks


def scene_points(
    scene: Reconstruction,
) -> tuple[Float64[np.ndarray, "n 3"], Bool[np.ndarray, "views n"]]:
    """Points of the scene, and which views see them: its tracks; else its depth, seen from everywhere."""
    tracks = scene.tracks
    if tracks is not None and len(tracks.points):
        seen = np.zeros((len(scene), len(tracks.points)), dtype=bool)
        seen[tracks.view_index, tracks.point_index] = True
        return tracks.points.astype(np.float64), seen
    points = []
    for index in range(len(scene)):
        valid = np.flatnonzero(scene.view_valid(index))
        chosen = valid[:: max(1, len(valid) // _DEPTH_POINTS)]
        points.append(scene.view_points(index).reshape(-1, 3)[chosen].astype(np.float64))
    everything = np.concatenate(points)
    pixels, z = project(everything[None], scene.cam_from_world, scene.intrinsics)
    with np.errstate(invalid="ignore"):
        inside = ((pixels >= 0) & (pixels < (scene.width, scene.height))).all(-1)
    return everything, inside & (z > 0)


def choose_neighbours(
    scene: Reconstruction,
    points: Float64[np.ndarray, "n 3"],
    seen: Bool[np.ndarray, "views n"],
    count: int,
) -> list[Int[np.ndarray, " _"]]:
    """For each view up to `count` others, the best first: many shared points, at good angles.

    Each shared point counts by the angle between its two rays, most at 8 degrees, and by how much smaller
    one view sees it (as MVSNet's view selection weighs angles, Yao et al., ECCV 2018, section 4.1).
    """
    rays = camera_centres(scene.cam_from_world)[:, None] - points[None]
    distance = np.linalg.norm(rays, axis=-1)
    rays /= distance[..., None] + 1e-12
    chosen = []
    for view in range(len(scene)):
        score = np.zeros(len(scene))
        own = np.flatnonzero(seen[view])
        for other in range(len(scene)):
            shared = own[seen[other, own]]
            if other == view or not len(shared):
                continue
            # By the sine: the cosine of a small angle is 1 up to rounding.
            cross = np.linalg.norm(np.cross(rays[view, shared], rays[other, shared]), axis=-1)
            angle = np.degrees(np.arctan2(cross, (rays[view, shared] * rays[other, shared]).sum(-1)))
            spread = np.where(angle < _BEST_ANGLE_DEG, *_SPREAD_DEG)
            ratio = distance[view, shared] / distance[other, shared]
            weight = np.exp(-0.5 * ((angle - _BEST_ANGLE_DEG) / spread) ** 2)
            score[other] = (weight * np.minimum(ratio, 1 / ratio)).sum()
        best = np.argsort(-score, kind="stable")[:count]
        chosen.append(best[score[best] > _LEAST_SCORE])
    return chosen


def inverse_depth_range(
    scene: Reconstruction, points: Float64[np.ndarray, "n 3"], seen: Bool[np.ndarray, " n"], view: int
) -> tuple[float, float] | None:
    """(least, most) inverse depth that a view shows, with a margin; None if it sees fewer than 8 points."""
    camera = scene.cam_from_world[view]
    z = points[seen] @ camera[2, :3] + camera[2, 3]
    z = z[z > 0]
    if len(z) < _LEAST_POINTS:
        return None
    near, far = np.percentile(z, _PERCENTILES)
    return 1 / (far * _FARTHER), _NEARER / near
