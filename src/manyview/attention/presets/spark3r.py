"""Spark3R: merged queries, keys of a few whole frames, fewer of them where layers do not mind."""

from __future__ import annotations

import dataclasses

from ...errors import UsageError
from ..frame_keys import EveryFrameKeys
from ..global_attention import GlobalAttention
from ..token_merge import GroupMergedQueries

_SENSITIVE = (11 / 24, 17 / 24)  # layers 11 to 16 of VGGT and pi3


@dataclasses.dataclass(frozen=True)
class Spark3r:
    """Spark3R (arXiv 2605.06270), training-free: see `GroupMergedQueries` and `EveryFrameKeys`.

    `q` and `r` None follow the paper's table by the number of frames, which reduces nothing up to 100.
    Layers outside `sensitive` (first x last; None: the paper's share of the depth) use keys of every
    `multiple` * r-th frame.
    """

    q: int | None = None
    r: int | None = None
    multiple: int = 3
    group: int = 20
    sensitive: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        GroupMergedQueries(self.q, self.group)
        EveryFrameKeys(self.r, self.multiple)

    def layers(self, depth: int) -> tuple[GlobalAttention, ...]:
        first, last = self.sensitive or (round(_SENSITIVE[0] * depth), round(_SENSITIVE[1] * depth) - 1)
        if self.sensitive and not 0 <= first <= last < depth:
            raise UsageError(f"spark3r: layers {first} to {last} are not among 0 to {depth - 1}")
        queries = GroupMergedQueries(self.q, self.group)
        some = GlobalAttention(queries, EveryFrameKeys(self.r))
        fewer = GlobalAttention(queries, EveryFrameKeys(self.r, self.multiple))
        return tuple(some if first <= layer <= last else fewer for layer in range(depth))
