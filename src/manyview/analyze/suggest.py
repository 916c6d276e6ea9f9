"""Early, middle and late layers, and plans made of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ..attention.dense import SameFrameKeys
from ..attention.global_attention import GlobalAttention
from ..attention.plan import Plan

_STRONG, _MATCHING, _IDLE = 0.2, 0.5, 0.05


@dataclasses.dataclass(frozen=True)
class Split:
    """The middle reaches from layer `first` to `last`; `idle` layers can use same-frame attention.

    `plans` are specs to try, most careful first: idle layers cut and the rest dense (if there are any), and
    AVGGT's form with the early layers cut and coarser keys in all later ones.
    """

    first: int
    last: int
    depth: int
    idle: tuple[int, ...]
    plans: tuple[str, ...]

    def sentence(self) -> str:
        """The split in words."""
        early = f"0-{self.first - 1}" if self.first else "none"
        late = f"{self.last + 1}-{self.depth - 1}" if self.last + 1 < self.depth else "none"
        idle = ", ".join(map(str, self.idle)) or "none"
        return f"early: {early}, middle: {self.first}-{self.last}, late: {late}; idle across frames: {idle}"


def suggest_split(cut: Sequence[float], match: Sequence[float], stride: tuple[int, int] = (2, 2)) -> Split:
    """Split layers by the effect of same-frame attention in each alone, and by the true matches they find.

    `cut` is the change of poses, `match` the best head's share of true matches above chance (NaN: unknown).
    With M the largest cut: a layer is of the middle if its cut is at least M / 5, or at least M / 20 while
    it finds half as many matches as the best layer; the middle reaches from the first to the last such
    layer. Below M / 20 a layer is idle. Late layers keep coarse keys, since AVGGT lost accuracy by
    cutting them.
    """
    depth, most = len(cut), max(cut)
    found = [0.0 if share != share else max(share, 0.0) for share in match]
    middle = [
        i
        for i in range(depth)
        if cut[i] >= _STRONG * most
        or (cut[i] >= _IDLE * most and found[i] > 0 and found[i] >= _MATCHING * max(found))
    ]
    idle = tuple(i for i in range(depth) if cut[i] < _IDLE * most)
    plans = [f"avggt:early={middle[0]},stride={stride[0]}x{stride[1]}"]
    if idle:
        own = GlobalAttention(keys=SameFrameKeys())
        plans.insert(0, str(Plan(tuple(own if i in idle else GlobalAttention() for i in range(depth)))))
    return Split(middle[0], middle[-1], depth, idle, tuple(plans))
