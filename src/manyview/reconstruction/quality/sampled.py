"""A bounded sample of a result: some pixels of some views, and which other views they are compared with."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from ...files.spread import evenly_spread
from ...geometry.unproject_np import camera_centres, project, unproject

if TYPE_CHECKING:
    from ..result.result import Reconstruction

MOST_VIEWS = 1000
PIXELS = 192
"""Of a view that are compared with other views."""
NEIGHBOURS = 6
_COARSE = 12  # pixels of a view that choose its neighbours
_PARALLAX_DEG = 3.0  # from here on a neighbour is worth as much as one farther away


@dataclasses.dataclass(frozen=True, eq=False)
class SampledPixels:
    """Valid pixels of one view: centres in the network image, depth, and world points."""

    pixels: Float[np.ndarray, "n 2"]
    z_depth: Float[np.ndarray, " n"]
    points: Float[np.ndarray, "n 3"]


class SampledViews:
    """Some views of a result, evenly spread, with random valid pixels of each and packed masks of the valid.

    `views` are their indices in the result; every other index here is a place in `views`.
    """

    def __init__(self, scene: Reconstruction) -> None:
        self.scene = scene
        self.views = evenly_spread(len(scene), MOST_VIEWS)
        self.cameras = scene.cam_from_world[self.views]
        self.intrinsics = scene.intrinsics[self.views]
        self.distortion = None if scene.distortion is None else scene.distortion[self.views]
        self.centres = camera_centres(self.cameras)
        self._masks: list[np.ndarray] = []
        self.samples: list[SampledPixels] = []
        rng = np.random.default_rng(0)
        for view in self.views:
            mask = scene.view_valid(view)
            self._masks.append(np.packbits(mask))
            self.samples.append(_sample(scene, view, mask, rng))

    def __len__(self) -> int:
        return len(self.views)

    def depth_at(self, place: int, pixels: Float[np.ndarray, "n 2"]) -> Float[np.ndarray, " n"]:
        """Depth of a view at the pixels nearest to these; NaN where none is valid."""
        scene = self.scene
        column, row = np.floor(np.nan_to_num(pixels, nan=-1.0).clip(-1, 1e6)).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < scene.width) & (row < scene.height)
        column, row = np.where(inside, column, 0), np.where(inside, row, 0)
        flat = row * scene.width + column
        inside &= (self._masks[place][flat >> 3] >> (7 - (flat & 7)).astype(np.uint8) & 1).astype(bool)
        depth = scene.z_depth[self.views[place]][row, column].astype(np.float64)
        return np.where(inside, depth, np.nan)

    @property
    def offset(self) -> float:
        """From where `project` puts a pixel to its centre at +0.5."""
        return 0.0 if self.scene.pixel_centres == "half" else 0.5

    def lens(self, places: int | Int[np.ndarray, " k"]) -> Float[np.ndarray, "*k 4"] | None:
        """Distortion of these views; None for pinholes."""
        return None if self.distortion is None else self.distortion[places]

    def neighbours(self) -> list[Int[np.ndarray, " _"]]:
        """For each view the views that see most of it, those from other places before those from its own."""
        found = []
        world = [sample.points[:: max(1, len(sample.points) // _COARSE)] for sample in self.samples]
        for place, points in enumerate(world):
            if not len(points):
                found.append(np.empty(0, dtype=int))
                continue
            share = self._seen(points).mean(1)
            share[place] = 0
            share *= 0.25 + 0.75 * np.minimum(1.0, self.parallax_deg(place, points) / _PARALLAX_DEG)
            best = np.argsort(-share, kind="stable")[:NEIGHBOURS]
            found.append(best[share[best] > 0])
        return found

    def parallax_deg(
        self, place: int, points: Float[np.ndarray, "n 3"], others: Int[np.ndarray, " k"] | None = None
    ) -> Float[np.ndarray, " k"]:
        """Median angle at these points between the rays to a view and to others (None: all), in degrees."""
        centres = self.centres if others is None else self.centres[others]
        own, rays = self.centres[place] - points, centres[:, None] - points
        own /= np.linalg.norm(own, axis=-1, keepdims=True) + 1e-12
        rays /= np.linalg.norm(rays, axis=-1, keepdims=True) + 1e-12
        # By the sine: the cosine of a small angle is 1 up to rounding.
        sine = np.linalg.norm(np.cross(rays, own), axis=-1)
        return np.degrees(np.median(np.arctan2(sine, (rays * own).sum(-1)), axis=1))

    def _seen(self, points: Float[np.ndarray, "n 3"]) -> Bool[np.ndarray, "views n"]:
        pixels, z = project(points[None], self.cameras, self.intrinsics, self.distortion)
        size = (self.scene.width, self.scene.height)
        with np.errstate(invalid="ignore"):
            return (z > 0) & ((pixels >= 0) & (pixels < size)).all(-1)


def _sample(
    scene: Reconstruction, view: int, mask: Bool[np.ndarray, "h w"], rng: np.random.Generator
) -> SampledPixels:
    valid = np.flatnonzero(mask)
    chosen = valid[rng.integers(len(valid), size=PIXELS)] if len(valid) > PIXELS else valid
    row, column = np.divmod(chosen, scene.width)
    pixels = np.stack([column, row], axis=-1) + 0.5
    depth = scene.z_depth[view][row, column].astype(np.float64)
    lens = None if scene.distortion is None else scene.distortion[view]
    camera = scene.cam_from_world[view], scene.intrinsics[view]
    points = unproject(pixels, depth, *camera, scene.pixel_centres, lens)
    return SampledPixels(pixels, depth, points)
