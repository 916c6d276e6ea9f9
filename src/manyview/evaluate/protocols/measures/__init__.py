"""What a protocol measures on one scene: each a frozen dataclass of its settings with `figures(pair)`.

Figures are a dictionary of plain numbers, None where a figure does not exist; never NaN.
"""

from __future__ import annotations

from collections.abc import Callable

from ..scene_pair import Figures, Measure
from .cloud import CloudChamfer
from .confidence import ConfidenceRanking
from .depth import Depth
from .point_maps import PointMaps
from .relative_pose import RelativePose
from .surface import FusedSurface
from .trajectory import Trajectory

MEASURES: dict[str, Callable[..., Measure]] = {
    one.__name__: one
    for one in (CloudChamfer, ConfidenceRanking, Depth, FusedSurface, PointMaps, RelativePose, Trajectory)
}
"""By the names that published.toml uses."""

__all__ = [
    "MEASURES",
    "CloudChamfer",
    "ConfidenceRanking",
    "Depth",
    "Figures",
    "FusedSurface",
    "Measure",
    "PointMaps",
    "RelativePose",
    "Trajectory",
]
