"""Cameras on the page: line segments for all of them, images on some."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float32, UInt8

from ..export.colours import by_order
from ..export.frusta import FRUSTUM_EDGES
from ..export.images import thumbnail
from ..reconstruction.result.result import Reconstruction

_THUMBNAIL = 160  # pixels on the longer side


@dataclasses.dataclass(frozen=True, eq=False)
class CameraShapes:
    """Frusta of unit size factor in page coordinates, as `frustum_corners` orders them."""

    corners: Float32[np.ndarray, "views 6 3"]

    def scaled(self, factor: float) -> Float32[np.ndarray, "views 6 3"]:
        """Corners after growing each frustum around its apex."""
        apex = self.corners[:, :1]
        return apex + np.float32(factor) * (self.corners - apex)

    def lines(self, factor: float, views: Any = slice(None)) -> Float32[np.ndarray, "n 2 3"]:
        """Line segments of some frusta, ten a camera."""
        return self.scaled(factor)[views][:, FRUSTUM_EDGES].reshape(-1, 2, 3)

    def image_plane(
        self, view: int, factor: float
    ) -> tuple[Float[np.ndarray, " 3"], Float[np.ndarray, "3 3"], float, float]:
        """(middle, axes as columns: right, down, ahead; width, height) of a frustum's rim."""
        top_left, top_right, bottom_right, bottom_left = self.scaled(factor)[view, 1:5].astype(np.float64)
        across, down = top_right - top_left, bottom_left - top_left
        width, height = float(np.linalg.norm(across)), float(np.linalg.norm(down))
        axes = np.stack([across / width, down / height, np.cross(across, down) / (width * height)], axis=1)
        return (top_left + bottom_right) / 2, axes, width, height


_UNREFINED = (150, 150, 150)


def unrefined_views(scene: Reconstruction) -> Bool[np.ndarray, " views"]:
    """Views that a refinement left with the network's camera; none where nothing was refined."""
    refinement = scene.refinement or {}
    if not refinement.get("accepted"):
        return np.zeros(len(scene), dtype=bool)
    status = {view["name"]: view["status"] for view in refinement.get("views", ())}
    return np.array([status.get(name) == "unrefined" for name in scene.names])


def line_colours(scene: Reconstruction) -> UInt8[np.ndarray, "n 2 3"]:
    """From blue (first view) to red (last), grey where not refined, for `CameraShapes.lines`."""
    colours = by_order(len(scene))
    colours[unrefined_views(scene)] = _UNREFINED
    # viser takes the colours of lines (not those of points) as linear light.
    linear = (255 * (colours / 255.0) ** 2.2).round().astype(np.uint8)
    return np.repeat(linear, 2 * len(FRUSTUM_EDGES), axis=0).reshape(-1, 2, 3)


def unpadded(scene: Reconstruction, view: int) -> UInt8[np.ndarray, "height width 3"]:
    """The network image of a view without its padding."""
    left, top, right, bottom = scene.views[view].transform.content_box
    return scene.images[view][top:bottom, left:right]


def small_image(scene: Reconstruction, view: int) -> UInt8[np.ndarray, "height width 3"]:
    """The image of a view, at most `_THUMBNAIL` pixels on the longer side."""
    return thumbnail(unpadded(scene, view), _THUMBNAIL)
