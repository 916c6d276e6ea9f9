"""Which frames of a scene each rank has."""

from __future__ import annotations

import bisect
import dataclasses
import itertools


@dataclasses.dataclass(frozen=True)
class FrameSplit:
    """Consecutive frames of a scene for each of several ranks.

    `counts` are the frames of each rank that has any, in the order of the scene; this is that of `rank`.
    Ranks beyond `counts` have no frames and no split.
    """

    counts: tuple[int, ...]
    rank: int

    def __post_init__(self) -> None:
        if not self.counts or min(self.counts) < 1:
            raise ValueError(f"every rank of a split has at least one frame, not {self.counts}")
        if not 0 <= self.rank < len(self.counts):
            raise ValueError(f"rank {self.rank} is not one of {len(self.counts)} ranks with frames")

    @classmethod
    def of(cls, frames: int, ranks: int, rank: int, together: int = 1) -> FrameSplit | None:
        """`frames` frames cut evenly over `ranks` ranks; None where this rank gets none.

        Frames are dealt in blocks of `together` frames, counted from the first; the last block may be
        shorter. The first ranks get one block more than the others, or are the only ones with frames.
        """
        if min(frames, ranks, together) < 1 or not 0 <= rank < ranks:
            raise ValueError(
                f"{frames} frames in blocks of {together} cannot be cut over {ranks} ranks for rank {rank}"
            )
        blocks = -(-frames // together)
        each, more = divmod(blocks, ranks)
        counts = [together * (each + (r < more)) for r in range(min(ranks, blocks))]
        counts[-1] -= blocks * together - frames
        return cls(tuple(counts), rank) if rank < len(counts) else None

    @property
    def frames(self) -> int:
        """Frames of the scene."""
        return sum(self.counts)

    @property
    def ranks(self) -> int:
        """Ranks that have frames."""
        return len(self.counts)

    @property
    def count(self) -> int:
        """Frames of this rank."""
        return self.counts[self.rank]

    @property
    def first(self) -> int:
        """This rank's first frame in the scene."""
        return sum(self.counts[: self.rank])

    @property
    def stop(self) -> int:
        """The frame after this rank's last."""
        return self.first + self.count

    @property
    def parts(self) -> tuple[FrameSplit, ...]:
        """The split as each of its ranks has it."""
        return tuple(FrameSplit(self.counts, rank) for rank in range(self.ranks))

    def owner(self, frame: int) -> int:
        """The rank that has a frame of the scene."""
        if not 0 <= frame < self.frames:
            raise ValueError(f"frame {frame} is not one of {self.frames} frames")
        return bisect.bisect_right(list(itertools.accumulate(self.counts)), frame)
