"""What a protocol measures on one scene: each a frozen dataclass of its settings with `figures(pair)`.

Figures are a dictionary of plain numbers, None where a figure does not exist; never NaN.
"""

from __future__ import annotations

from collections.abc import Callable

from ..scene_pair import Figures, Measure
from .cloud import CloudChamfer
from .confidence import ConfidenceRanking
from .depth import Depth
from .focal import FocalLength
from .median_cloud import MedianCloud
from .point_maps import PointMaps
from .relative_pose import RelativePose
from .surface import FusedSurface
from .trajectory import Trajectory

_ALL = (
    *(CloudChamfer, ConfidenceRanking, Depth, FocalLength, FusedSurface, MedianCloud, PointMaps),
    *(RelativePose, Trajectory),
)
MEASURES: dict[str, Callable[..., Measure]] = {one.__name__: one for one in _ALL}
"""By the names that the tables of published use."""

__all__ = [
    "MEASURES",
    "CloudChamfer",
    "ConfidenceRanking",
    "Depth",
    "Figures",
    "FocalLength",
    "FusedSurface",
    "Measure",
    "MedianCloud",
    "PointMaps",
    "RelativePose",
    "Trajectory",
]
