"""Early, middle and late layers, and a plan made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

_SHARE = 0.2


@dataclasses.dataclass(frozen=True)
class Split:
    """Layers before `first` and after `last` do little across frames; those between carry the matching."""

    first: int
    last: int
    depth: int
    plan: str

    def sentence(self) -> str:
        """The split in words."""
        early = f"0-{self.first - 1}" if self.first else "none"
        late = f"{self.last + 1}-{self.depth - 1}" if self.last + 1 < self.depth else "none"
        return f"early: {early}, middle: {self.first}-{self.last}, late: {late}; suggested plan {self.plan}"


def suggest_split(frame_knockouts: Sequence[float], stride: tuple[int, int] = (2, 2)) -> Split:
    """Split by the change that cutting each single layer to its own frame makes.

    The middle reaches from the first to the last layer whose change is at least a fifth of the largest one.
    The plan is AVGGT's form: early layers see their own frame, all later ones coarser keys (late layers
    lose accuracy when cut, says AVGGT; their keys can be coarse).
    """
    depth = len(frame_knockouts)
    limit = _SHARE * max(frame_knockouts)
    strong = [i for i, value in enumerate(frame_knockouts) if value >= limit and value > 0]
    first, last = (strong[0], strong[-1]) if strong else (0, depth - 1)
    plan = f"avggt:early={first},stride={stride[0]}x{stride[1]}"
    return Split(first, last, depth, plan)
