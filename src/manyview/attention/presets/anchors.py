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
    """Every layer from `early` on sees `frames` anchor frames, chosen once a run (see `AnchorKeys`)."""

    frames: int = 25
    choice: Literal["coverage", "even"] = "coverage"
    own_frame: bool = True
    early: int = 0

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        if not 0 <= self.early <= depth:
            raise UsageError(f"anchors: early={self.early} is not a number of layers from 0 to {depth}")
        keys = AnchorKeys(self.frames, self.choice, self.own_frame)
        frame = GlobalAttention(keys=OwnFrameKeys())
        return (frame,) * self.early + (GlobalAttention(keys=keys),) * (depth - self.early)
