"""Page coordinates: the scene centred and scaled, independent of its unit and precise in float32."""

from __future__ import annotations

import dataclasses

import numpy as np
from jaxtyping import Float, Float32

from ..export.orthographic import scene_axes
from ..geometry.unproject_np import camera_centres
from ..reconstruction.result.result import Reconstruction

PAGE_EXTENT = 10.0  # diagonal of the scene on the page; viser's clipping planes are at 0.01 and 1000
_SHOWN_PERCENTILES = (4.0, 96.0)


@dataclasses.dataclass(frozen=True, eq=False)
class PageSpace:
    """A similarity from world to page coordinates (no rotation), and the scene's up direction.

    The page uses float32: with the origin in the middle of the scene, coordinates are exact to a millionth
    of its extent.
    """

    centre: Float[np.ndarray, " 3"]
    scale: float
    up: Float[np.ndarray, " 3"]

    def __call__(self, world: Float[np.ndarray, "*batch 3"]) -> Float32[np.ndarray, "*batch 3"]:
        """Page coordinates of world points."""
        return ((np.asarray(world, dtype=np.float64) - self.centre) * self.scale).astype(np.float32)


def fit_space(scene: Reconstruction, points: Float[np.ndarray, "n 3"]) -> PageSpace:
    """The bulk of the points, and the cameras, in a box of diagonal `PAGE_EXTENT` around the origin."""
    centres = camera_centres(scene.cam_from_world)
    low, high = centres.min(axis=0), centres.max(axis=0)
    if len(points):
        shown = np.percentile(points, _SHOWN_PERCENTILES, axis=0)
        low, high = np.minimum(low, shown[0]), np.maximum(high, shown[1])
    extent = float(np.linalg.norm(high - low))
    up = scene_axes(scene, np.asarray(points, dtype=np.float64))[2]
    return PageSpace((low + high) / 2, PAGE_EXTENT / extent if extent > 0 else 1.0, up)


def first_eye(scene: Reconstruction, space: PageSpace) -> Float[np.ndarray, " 3"]:
    """Where the page looks at its origin from: behind and above the cameras, towards what they look at."""
    ahead = scene.cam_from_world[:, 2, :3].mean(axis=0)
    ahead -= space.up * (ahead @ space.up)
    if np.linalg.norm(ahead) < 0.2:  # cameras that look all around have no common direction
        ahead = scene.cam_from_world[0, 2, :3] - space.up * (scene.cam_from_world[0, 2, :3] @ space.up)
    if np.linalg.norm(ahead) < 1e-3:  # straight down or up: up in the image is ahead
        ahead = -scene.cam_from_world[0, 1, :3]
    ahead = ahead / np.linalg.norm(ahead)
    return 0.62 * PAGE_EXTENT * (-ahead + 0.55 * space.up)
