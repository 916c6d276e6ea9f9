"""Refined cameras in the world of the network's, and a place there for views that were not refined."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Bool, Float64, Int

from ..geometry.unproject_np import camera_centres, nearest_rigid
from ..reconstruction.result.tracks import Tracks
from .solution import Solution

_NEIGHBOURS = 3  # refined views that decide where one that is not refined is


@dataclasses.dataclass(frozen=True, eq=False)
class Similarity:
    """target = scale * rotation @ source + translation."""

    scale: float
    rotation: Float64[np.ndarray, "3 3"]
    translation: Float64[np.ndarray, " 3"]

    def points(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Points of the source in the target."""
        return self.scale * points @ self.rotation.T + self.translation

    def cameras(self, cam_from_source: Float64[np.ndarray, "v 3 4"]) -> Float64[np.ndarray, "v 3 4"]:
        """Cameras of the source in the target; depth in them is `scale` times that of the source."""
        return _cameras(
            cam_from_source[:, :, :3] @ self.rotation.T, self.points(camera_centres(cam_from_source))
        )


def network_from_solution(
    cam_from_world: Float64[np.ndarray, "views 3 4"], solution: Solution, scale: float
) -> Similarity:
    """The similarity into the network's world.

    The first refined view keeps the camera that the network gave it, which is mostly what defines the world;
    `scale` is that at which the network's depth agrees with the points. So the network's other cameras,
    which may be anywhere, have no say. The world of known poses stays as it is.
    """
    if solution.in_given_world:
        return Similarity(1.0, np.eye(3), np.zeros(3))
    first = int(np.argmax(solution.refined))
    given, found = cam_from_world[first], solution.cam_from_world[first]
    rotation = given[:, :3].T @ found[:, :3]
    centres = camera_centres(np.stack([given, found]))
    return Similarity(scale, rotation, centres[0] - scale * rotation @ centres[1])


def moved(tracks: Tracks, similarity: Similarity) -> Tracks:
    """Tracks with their points in the target."""
    return dataclasses.replace(tracks, points=similarity.points(tracks.points))


def with_neighbours(
    predicted: Float64[np.ndarray, "views 3 4"],
    refined: Float64[np.ndarray, "views 3 4"],
    has_camera: Bool[np.ndarray, " views"],
    scales: Float64[np.ndarray, " views"],
) -> Float64[np.ndarray, "views 3 4"]:
    """All cameras: a view without a refined one keeps its place beside its nearest neighbours that have one.

    Args:
        predicted: cam_from_world of the network.
        refined: cam_from_world after refinement, meaningless where `has_camera` is False.
        has_camera: Which views were refined, at least one.
        scales: Refined units in one of the network's, around each view.

    Returns:
        `refined`, with the network's camera relative to each of up to three neighbours (nearest in the
        network's world, by place and direction), averaged, for the others.
    """
    found = refined.copy()
    centres, new_centres = camera_centres(predicted), camera_centres(refined)
    for view in np.flatnonzero(~has_camera):
        near = _nearest(predicted, centres, int(view), np.flatnonzero(has_camera))
        # world_refined_from_world_network of each neighbour, applied to the view's camera.
        turns = np.swapaxes(refined[near, :, :3], 1, 2) @ predicted[near, :, :3]
        steps = np.einsum("nij,nj->ni", turns, centres[view] - centres[near]) * scales[near, None]
        rotation = predicted[view, :, :3] @ np.swapaxes(turns, 1, 2).mean(0)
        u, _, vh = np.linalg.svd(rotation)
        rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vh)]) @ vh
        found[view] = _cameras(rotation[None], (new_centres[near] + steps).mean(0)[None])[0]
    return nearest_rigid(found)[0]


def _nearest(
    predicted: Float64[np.ndarray, "views 3 4"],
    centres: Float64[np.ndarray, "views 3"],
    view: int,
    among: Int[np.ndarray, " n"],
) -> Int[np.ndarray, " k"]:
    distance = np.linalg.norm(centres[among] - centres[view], axis=1)
    spread = float(np.median(np.linalg.norm(centres - np.median(centres, axis=0), axis=1)))
    cosine = predicted[among, 2, :3] @ predicted[view, 2, :3]
    return among[np.argsort(distance / (spread + 1e-12) + (1 - cosine), kind="stable")[:_NEIGHBOURS]]


def _cameras(
    rotations: Float64[np.ndarray, "n 3 3"], centres: Float64[np.ndarray, "n 3"]
) -> Float64[np.ndarray, "n 3 4"]:
    return np.concatenate([rotations, -rotations @ centres[:, :, None]], axis=-1)
