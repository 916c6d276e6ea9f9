"""Cameras as meshes: each frustum a wire frame of thin tubes, coloured by the order of the views."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8

from ..geometry.unproject_np import camera_centres, unproject
from .colours import by_order

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# Pairs of `frustum_corners`: apex to corners, around the image, and a roof that marks "up".
FRUSTUM_EDGES = np.array([(0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1), (1, 5), (5, 2)])
_TUBE_SIDES = 3


def frustum_size(scene: Reconstruction, points: Float[np.ndarray, "n 3"]) -> float:
    """Depth of the drawn frusta: small against the scene, and not much larger than the camera spacing."""
    centres = camera_centres(scene.cam_from_world)
    everything = np.concatenate([centres, points])
    extent = float(np.linalg.norm(np.diff(np.percentile(everything, [5, 95], axis=0), axis=0)))
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    spacing = float(np.median(steps)) if len(steps) else extent
    return float(np.clip(1.5 * spacing, 0.02 * extent, 0.06 * extent)) or 1.0


def frustum_corners(scene: Reconstruction, size: float) -> Float[np.ndarray, "views 6 3"]:
    """Apex, corners of the image (clockwise from top-left) at depth `size`, and a roof tip; world axes."""
    boxes = np.array([view.transform.content_box for view in scene.views], dtype=np.float64)
    left, top, right, bottom = boxes.T
    roof = top - 0.25 * (bottom - top)
    x = np.stack([left, right, right, left, (left + right) / 2], axis=-1)
    y = np.stack([top, top, bottom, bottom, roof], axis=-1)
    depth = np.full(x.shape, size)
    rim = unproject(np.stack([x, y], axis=-1), depth, **scene.cameras(np.arange(len(scene))))
    return np.concatenate([camera_centres(scene.cam_from_world)[:, None], rim], axis=1)


def frustum_mesh(
    scene: Reconstruction, size: float
) -> tuple[Float[np.ndarray, "n 3"], Int[np.ndarray, "m 3"], UInt8[np.ndarray, "n 3"]]:
    """(vertices, triangles, vertex colours) of all frusta."""
    corners = frustum_corners(scene, size)
    start, end = (corners[:, FRUSTUM_EDGES[:, side]].reshape(-1, 3) for side in (0, 1))
    vertices, triangles = _tubes(start, end, radius=0.015 * size)
    colours = np.repeat(by_order(len(scene)), len(FRUSTUM_EDGES) * 2 * _TUBE_SIDES, axis=0)
    return vertices, triangles, colours


def _tubes(
    start: Float[np.ndarray, "n 3"], end: Float[np.ndarray, "n 3"], radius: float
) -> tuple[Float[np.ndarray, "v 3"], Int[np.ndarray, "t 3"]]:
    """Three-sided open tubes from `start` to `end`."""
    along = end - start
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-30)
    helper = np.eye(3)[np.abs(along).argmin(axis=1)]
    first = np.cross(along, helper)
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(along, first)
    angles = 2 * np.pi * np.arange(_TUBE_SIDES) / _TUBE_SIDES
    ring = radius * (
        np.cos(angles)[None, :, None] * first[:, None] + np.sin(angles)[None, :, None] * second[:, None]
    )
    vertices = np.concatenate([start[:, None] + ring, end[:, None] + ring], axis=1)
    this, following = np.arange(_TUBE_SIDES), (np.arange(_TUBE_SIDES) + 1) % _TUBE_SIDES
    lower = np.stack([this, following, this + _TUBE_SIDES], axis=-1)
    upper = np.stack([following, following + _TUBE_SIDES, this + _TUBE_SIDES], axis=-1)
    pattern = np.concatenate([lower, upper])
    triangles = np.arange(len(start))[:, None, None] * 2 * _TUBE_SIDES + pattern
    return vertices.reshape(-1, 3), triangles.reshape(-1, 3)
