"""Where each token of a many-frame sequence comes from."""

from __future__ import annotations

import dataclasses

from ..distributed.frames import FrameSplit


@dataclasses.dataclass(frozen=True)
class TokenLayout:
    """Shape of the token sequence that global layers see.

    Tokens are ordered frame by frame; inside a frame the special tokens come first (camera, then
    registers), then the patches row by row. `grid` is (rows, columns). `reference_frame` is the frame
    that defines the world (VGGT: 0), or None where all frames are equal.
    """

    frames: int
    special_tokens: int
    grid: tuple[int, int]
    reference_frame: int | None = 0

    def __post_init__(self) -> None:
        if self.frames < 1 or self.special_tokens < 0 or min(self.grid) < 1:
            raise ValueError(f"a token layout needs at least one frame and one patch, got {self}")
        if self.reference_frame is not None and not 0 <= self.reference_frame < self.frames:
            raise ValueError(f"reference frame {self.reference_frame} is not one of {self.frames} frames")

    @property
    def patches_per_frame(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def tokens_per_frame(self) -> int:
        return self.special_tokens + self.patches_per_frame

    @property
    def tokens(self) -> int:
        return self.frames * self.tokens_per_frame

    def part(self, split: FrameSplit) -> TokenLayout:
        """The layout of a rank's own frames; without a reference frame where another rank has it."""
        if split.frames != self.frames:
            raise ValueError(f"{split.frames} frames are split over ranks, but the scene has {self.frames}")
        reference = self.reference_frame
        if reference is not None:
            reference = reference - split.first if split.first <= reference < split.stop else None
        return dataclasses.replace(self, frames=split.count, reference_frame=reference)
