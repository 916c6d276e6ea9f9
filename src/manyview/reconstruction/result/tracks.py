"""Points of a scene and where views see them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8


@dataclasses.dataclass(frozen=True, eq=False)
class Tracks:
    """Points and their observations; observation i belongs to point `point_index[i]`, sorted by point.

    `pixels` are in the network images, centres at +0.5, and may lie outside of them where the network saw
    only a part of the image. They are places in the image itself: lens distortion is in them. No place of a
    view belongs to two observations. Raises ValueError for arrays that do not fit each other.
    """

    points: Float[np.ndarray, "n 3"]
    colours: UInt8[np.ndarray, "n 3"]
    point_index: Int[np.ndarray, " m"]
    view_index: Int[np.ndarray, " m"]
    pixels: Float[np.ndarray, "m 2"]

    def __post_init__(self) -> None:
        points, observed = len(self.points), len(self.point_index)
        shapes = [self.points.shape, self.colours.shape, self.view_index.shape, self.pixels.shape]
        if shapes != [(points, 3), (points, 3), (observed,), (observed, 2)]:
            raise ValueError(f"tracks: points, colours, view_index and pixels have the shapes {shapes}")
        if observed and not (self.point_index[0] >= 0 and self.point_index[-1] < points):
            raise ValueError(f"tracks: an observation belongs to none of the {points} points")
        if (np.diff(self.point_index) < 0).any():
            raise ValueError("tracks: observations must be sorted by point")
        if not (np.isfinite(self.points).all() and np.isfinite(self.pixels).all()):
            raise ValueError("tracks: points and pixels must be finite")

    @property
    def lengths(self) -> Int[np.ndarray, " n"]:
        """Number of observations of each point."""
        return np.bincount(self.point_index, minlength=len(self.points))

    def select(self, kept: Bool[np.ndarray, " n"]) -> Tracks:
        """The points where `kept` is True, with their observations."""
        observed = kept[self.point_index]
        number = np.cumsum(kept) - 1
        return Tracks(
            self.points[kept],
            self.colours[kept],
            number[self.point_index[observed]],
            self.view_index[observed],
            self.pixels[observed],
        )

    def observed_by(self, views: Sequence[int] | Bool[np.ndarray, " views"], least: int = 2) -> Tracks:
        """Only observations of these views, and the points that keep at least so many of them."""
        chosen = np.flatnonzero(views) if isinstance(views, np.ndarray) else np.asarray(views)
        return self.observed(np.isin(self.view_index, chosen), least)

    def observed(self, kept: Bool[np.ndarray, " m"], least: int = 2) -> Tracks:
        """The observations where `kept` is True, and the points that keep at least so many of them."""
        fewer = Tracks(
            self.points, self.colours, self.point_index[kept], self.view_index[kept], self.pixels[kept]
        )
        return fewer.select(fewer.lengths >= least)
