"""How depth is measured from exact cameras."""

from __future__ import annotations

import dataclasses

from ..._option_checks import check_options
from ...errors import UsageError


@dataclasses.dataclass(frozen=True)
class StereoOptions:
    """How depth is searched and confirmed; pixels are those of the depth maps."""

    size: int = 512
    """Longer side of the depth maps. Images that are smaller are not enlarged, and where the network saw them
    as large, its own pixels are kept."""
    coarsest: int = 256
    """About the longer side of the images in which all depths are searched; finer ones start from there."""
    neighbours: int = 6
    """Each view is compared with so many others."""
    best: int = 3
    """Of which so many decide the cost of a depth, those that agree best: others may not see the place."""
    window: int = 7
    """Side of the patches that are compared."""
    planes: int = 192
    """At most so many depths of the first search."""
    looks: int = 2
    """Searches of each view: the first over all depths, further ones around what other views confirmed."""
    witnesses: int = 10
    """Each view is confirmed by so many of its neighbours at most, of which..."""
    agreeing: int = 2
    """...so many must agree with a depth (one where there is only one)."""
    reprojection: float = 1.5
    """A view agrees if the way there and back, by its own depth, ends within so many pixels..."""
    relative_depth: float = 0.015
    """...and at a depth that differs by at most this share."""

    most_cost: float = 0.8
    """Depths with a higher cost are not used; 0 is that of equal patches, 1 that of unrelated ones."""

    def __post_init__(self) -> None:
        least = {
            "size": 64,
            "coarsest": 32,
            "neighbours": 1,
            "best": 1,
            "window": 3,
            "planes": 8,
            "agreeing": 1,
        }
        check_options(self, at_least=least, above={"reprojection": 0, "relative_depth": 0, "most_cost": 0})
        if self.window % 2 == 0:
            raise UsageError(f"window must be odd, so that a patch has a middle, not {self.window}")
