"""Distances between two points that are clicked on, for each browser its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from ..reconstruction.result.result import Reconstruction

_REACH_PX = 5.0  # around a click
_NEAR_SURFACE = 0.02  # of the distance from the eye: what lies as near as the nearest counts as one surface
_COLOUR = (255, 0, 170)


def pick_point(
    points: Float32[np.ndarray, "n 3"],
    origin: Float[np.ndarray, " 3"],
    direction: Float[np.ndarray, " 3"],
    tolerance: float,
) -> int | None:
    """Which point a ray means: of the nearest surface within `tolerance` radians, the one closest to the ray.

    None if no point in front of `origin` is that close to the ray.
    """
    offset = points - origin
    along = offset @ (direction / np.linalg.norm(direction))
    beside = np.sqrt(np.maximum(np.square(offset).sum(axis=1) - along**2, 0.0))
    hit = np.flatnonzero((along > 0) & (beside <= np.tan(tolerance) * along))
    if not len(hit):
        return None
    hit = hit[along[hit] <= (1 + _NEAR_SURFACE) * along[hit].min()]
    return int(hit[np.argmin(beside[hit] / along[hit])])


def length_in_words(scene: Reconstruction, length: float) -> str:
    """A length of the world with its unit, or that there is none."""
    if scene.metric is not None:
        return f"{length:.3g} m"
    known = scene.settings.get("known", {})
    if known.get("poses") or known.get("depth"):
        return f"{length:.4g} in the unit of the given cameras or depth"
    return f"{length:.4g} scene units; the scale is unknown"


class Measure:
    """Two points of one browser and the line between them; `say` hears what to do, or the distance."""

    def __init__(self, client: Any, viewer: Any, say: Callable[[str], None]) -> None:
        self._client, self._viewer, self._say = client, viewer, say
        self._ends: list[Float[np.ndarray, " 3"]] = []
        self._nodes: list[Any] = []

    def click(self, event: Any) -> None:
        """Take the point under a click of viser as the first end or, after one, as the second."""
        camera = self._client.camera
        tolerance = _REACH_PX * 2 * np.tan(camera.fov / 2) / max(camera.image_height, 1)
        points = self._viewer.points_on_page()
        found = pick_point(points, np.array(event.ray_origin), np.array(event.ray_direction), tolerance)
        if found is None:
            self._say("No point is there; click on one.")
            return
        if len(self._ends) == 2:
            self.clear()
        self._ends.append(points[found].astype(np.float64))
        self._draw_end()
        if len(self._ends) == 1:
            self._say("Click on the second point.")
            return
        start, end = self._ends
        length = float(np.linalg.norm(end - start)) / self._viewer.space.scale
        words = length_in_words(self._viewer.scene, length)
        self._say(f"**{words}**")
        self._draw_line(words)

    def clear(self) -> None:
        """Forget both points."""
        for node in self._nodes:
            node.remove()
        self._ends, self._nodes = [], []
        self._say("Click on two points.")

    def _draw_end(self) -> None:
        end = self._ends[-1]
        away = float(np.linalg.norm(end - self._client.camera.position))
        self._nodes.append(
            self._client.scene.add_point_cloud(
                f"/measure/end-{len(self._ends)}", end[None].astype(np.float32), _COLOUR,
                point_size=0.012 * away, point_shape="circle", point_shading="flat", precision="float32",
            )
        )  # fmt: skip

    def _draw_line(self, words: str) -> None:
        line = np.array(self._ends, dtype=np.float32)
        scene = self._client.scene
        self._nodes.append(
            scene.add_line_segments(
                "/measure/line", line[None], _COLOUR, thickness=3.0, thickness_units="screen"
            )
        )
        self._nodes.append(scene.add_label("/measure/label", words, position=line.mean(axis=0)))
