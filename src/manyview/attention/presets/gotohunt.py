"""GoToHunt: early layers by frame, then common keys of a few covering frames, on a coarser grid at first."""

from __future__ import annotations

import dataclasses

from ...errors import UsageError
from ..dense import OwnFrameKeys
from ..frame_keys import CoveringFrameKeys
from ..global_attention import GlobalAttention


@dataclasses.dataclass(frozen=True)
class GoToHunt:
    """GoToHunt (arXiv 2605.23892), training-free: see `CoveringFrameKeys`.

    Global layers before `early` see their own frame, those before `full` every `stride`-th patch per side of
    the common frames, the others all of them. Defaults: 2 and 9 of 24 layers, the same share of
    another depth.
    """

    frames: int = 25
    stride: int = 2
    early: int | None = None
    full: int | None = None

    def __post_init__(self) -> None:
        CoveringFrameKeys(self.frames, self.stride)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        early = round(2 / 24 * depth) if self.early is None else self.early
        full = max(early, round(9 / 24 * depth)) if self.full is None else self.full
        if not 0 <= early <= full <= depth:
            raise UsageError(
                f"gotohunt: early={early} and full={full} are not numbers of layers in order up to {depth}"
            )
        own = GlobalAttention(keys=OwnFrameKeys())
        coarse = GlobalAttention(keys=CoveringFrameKeys(self.frames, self.stride))
        whole = GlobalAttention(keys=CoveringFrameKeys(self.frames))
        return (own,) * early + (coarse,) * (full - early) + (whole,) * (depth - full)
