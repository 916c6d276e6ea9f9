"""What a protocol measures on one scene: each a frozen dataclass of its settings with `figures(pair)`.

Figures are a dictionary of plain numbers, None where a figure does not exist; never NaN.
"""

from __future__ import annotations

from .cloud import CloudChamfer
from .confidence import ConfidenceRanking
from .depth import Depth
from .measure import Figures, Measure
from .point_maps import PointMaps
from .relative_pose import RelativePose
from .surface import FusedSurface
from .trajectory import Trajectory

__all__ = [
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
