"""Which points the page shows, and how large: rules that need neither network nor masks."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from ..files.spread import evenly_spread
from ..reconstruction.result.result import Reconstruction
from .cloud import RankedPoints

_BLACK_SUM = 16  # of red, green and blue: below it a pixel counts as black background
_WHITE = 240  # all three above it: white background
_SPACED_VIEWS = 32
_NEIGHBOUR_SAMPLE = 256
_NEIGHBOUR_POINTS = 50_000
_GAP_FACTOR = 1.5


@dataclasses.dataclass(frozen=True)
class PointFilter:
    """What is hidden beyond points of little confidence."""

    depth_jump: float | None = None
    """Pixels whose depth differs by more than this share from a direct neighbour's."""
    black: bool = False
    """Pixels that are as good as black, as the background of cut-out objects is."""
    white: bool = False
    """Pixels that are as good as white."""

    def keeps(self, cloud: RankedPoints) -> Bool[np.ndarray, " n"]:
        """True for the points that stay."""
        kept = ~hidden_colours(cloud.colours, self.black, self.white)
        return kept if self.depth_jump is None else kept & (cloud.jump <= self.depth_jump)

    def kept(self, cloud: RankedPoints, percentile: float) -> RankedPoints:
        """The points that stay with the slider at `percentile`."""
        sure = cloud.chosen(slice(0, cloud.count_at(percentile)))
        return sure.chosen(self.keeps(sure))


NOTHING = PointFilter()


def hidden_colours(colours: UInt8[np.ndarray, "n 3"], black: bool, white: bool) -> Bool[np.ndarray, " n"]:
    """True for colours that count as a black background (sum below 16), or a white one (all above 240)."""
    hidden = np.zeros(len(colours), dtype=bool)
    if black:
        hidden |= colours.sum(axis=1, dtype=np.int32) < _BLACK_SUM
    if white:
        hidden |= (colours > _WHITE).all(axis=1)
    return hidden


def point_width(
    scene: Reconstruction, points: Float32[np.ndarray, "n 3"], views: Sequence[int] | None = None
) -> float:
    """How wide to draw points of views (None: of all) so that surfaces look closed; 0 where there are none.

    In world units: as wide as neighbouring pixels lie apart at the median depth, or wider where thinning
    left gaps, 1.5 times the median distance from a point to its nearest neighbour.
    """
    spacings = []
    for index in evenly_spread(len(scene), _SPACED_VIEWS) if views is None else views:
        depth = scene.z_depth[index][scene.view_valid(index)]
        if depth.size:
            spacings.append(float(np.median(depth)) / float(scene.intrinsics[index, [0, 1], [0, 1]].mean()))
    spacing = float(np.median(spacings)) if spacings else 0.0
    return max(spacing, _GAP_FACTOR * neighbour_distance(points))


def neighbour_distance(points: Float32[np.ndarray, "n 3"]) -> float:
    """Median distance to the nearest other point, estimated from some; 0 for fewer than two.

    Among a share s of points on a surface, neighbours lie 1 / sqrt(s) as far apart.
    """
    if len(points) < 2:
        return 0.0
    rng = np.random.default_rng(0)
    few = points
    if len(points) > _NEIGHBOUR_POINTS:
        few = points[rng.choice(len(points), _NEIGHBOUR_POINTS, replace=False)]
    nearest = []
    for index in rng.choice(len(few), min(_NEIGHBOUR_SAMPLE, len(few)), replace=False):
        squared = np.square(few - few[index]).sum(axis=1)
        squared[index] = np.inf
        nearest.append(squared.min())
    return float(np.sqrt(np.median(nearest) * len(few) / len(points)))
