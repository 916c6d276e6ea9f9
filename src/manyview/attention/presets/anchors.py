"""Anchors, our own: K/V of a few covering frames for everybody, and the own frame."""

from __future__ import annotations

import dataclasses
from typing import Literal

from ...errors import UsageError
from ..anchor_keys import AnchorKeys
from ..dense import OwnFrameKeys
from ..global_attention import GlobalAttention


@dataclasses.dataclass(frozen=True)
class Anchors:
    """Layers from `early` on see `frames` anchor frames, chosen once a run (see `AnchorKeys`).

    Layers outside `sensitive` (first x last; None: all are) see `fewer` times fewer anchors, a subset of the
    others where they are chosen by coverage. `descriptors` and `count_bias` bring in the rest. `cameras`: the
    camera head too joins each frame with the anchors only, as its answers else depend on all frames ("all").
    """

    frames: int = 25
    choice: Literal["coverage", "even"] = "coverage"
    own_frame: bool = True
    early: int = 0
    sensitive: tuple[int, int] | None = None
    fewer: int = 3
    descriptors: int = 0
    count_bias: float = 1.0
    cameras: Literal["anchors", "all"] = "anchors"

    def __post_init__(self) -> None:
        if self.fewer < 1:
            raise ValueError(f"fewer divides the number of anchors by at least 1, not {self.fewer}")
        self._layer(self.frames)

    def _layer(self, frames: int) -> GlobalAttention:
        return GlobalAttention(
            keys=AnchorKeys(frames, self.choice, self.own_frame, None, self.descriptors, self.count_bias)
        )

    def camera(self) -> GlobalAttention | None:
        """How frames meet in the camera head."""
        keys = AnchorKeys(self.frames, self.choice)
        return GlobalAttention(keys=keys) if self.cameras == "anchors" else None

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        if not 0 <= self.early <= depth:
            raise UsageError(f"anchors: early={self.early} is not a number of layers from 0 to {depth}")
        first, last = self.sensitive or (0, depth - 1)
        if not 0 <= first <= last < depth:
            raise UsageError(f"anchors: layers {first} to {last} are not among 0 to {depth - 1}")
        frame = GlobalAttention(keys=OwnFrameKeys())
        few = max(1, self.frames // self.fewer)
        later = (self._layer(self.frames if first <= i <= last else few) for i in range(self.early, depth))
        return (frame,) * self.early + tuple(later)
