"""An estimate beside the ground truth of one scene, in one order and on one grid, and what measures it."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float, Int

Grid = Literal["network", "truth", "truth-bicubic"]
Needs = Literal["cameras", "depth", "points"]
Figures = dict[str, float | None]


@dataclasses.dataclass(frozen=True, eq=False)
class ScenePair:
    """Cameras are cam_from_world; NaN for views that the model gave no camera, with all that is theirs.

    Depth and points are NaN where there is none; the estimate's are in its own world and scale. `true_*` are
    None without depth (points also without intrinsics), `head_points` without a point head, `cloud` (measured
    points of the whole scene) without one, `triangles` (of its points, by index) where it is no mesh. Lengths
    of the truth are `per_metre` to a metre (1 where its unit is its own). `seen` is where pixels of the grid
    show the image. `found_intrinsics` and `true_intrinsics` are in the same pixels, centres at +0.5 (None
    where nothing was found or is known). `confirmed`: where several views confirm the estimated depth (None
    where nothing measured that).
    """

    found_cameras: Float[np.ndarray, "views 3 4"]
    true_cameras: Float[np.ndarray, "views 3 4"]
    found_depth: Float[np.ndarray, "views _ _"]
    confidence: Float[np.ndarray, "views _ _"]
    found_points: Float[np.ndarray, "views _ _ 3"]
    seen: Bool[np.ndarray, "views height width"]
    true_depth: Float[np.ndarray, "views height width"] | None = None
    true_points: Float[np.ndarray, "views height width 3"] | None = None
    head_points: Float[np.ndarray, "views _ _ 3"] | None = None
    cloud: Float[np.ndarray, "n 3"] | None = None
    triangles: Int[np.ndarray, "m 3"] | None = None
    notes: tuple[str, ...] = ()
    per_metre: float = 1.0
    found_intrinsics: Float[np.ndarray, "views 3 3"] | None = None
    true_intrinsics: Float[np.ndarray, "views 3 3"] | None = None
    confirmed: Bool[np.ndarray, "views height width"] | None = None

    @property
    def measured_points(self) -> Float[np.ndarray, "n 3"] | None:
        """The cloud, else the points of the true depth; None without either, or without a point."""
        points = self.cloud
        if points is None and self.true_points is not None:
            points = self.true_points[np.isfinite(self.true_points).all(-1)]
        return points if points is not None and len(points) else None


@runtime_checkable
class Measure(Protocol):
    """A frozen dataclass; its fields are all that decides its figures."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def needs(self) -> Needs:
        """What a pair must hold."""
        ...

    def figures(self, pair: ScenePair, workers: int) -> Figures:
        """Figures by name; `workers` threads search neighbours (-1: all cores)."""
        ...
