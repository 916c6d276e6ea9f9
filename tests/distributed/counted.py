"""A rank that is alone: what others send has the right shape and no values. For counting bytes on `meta`."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from manyview.distributed.ranks import Pending, Ranks


class CountedRanks(Ranks):
    """Everything arrives at once, as new tensors."""

    def _all_gather(self, x: Tensor, sizes: Sequence[int]) -> Pending:
        joined = torch.empty(sum(sizes), *x.shape[1:], dtype=x.dtype, device=x.device)
        return Pending(lambda: joined)

    def _all_reduce(self, x: Tensor) -> Tensor:
        return x.clone()

    def _to_next(self, x: Tensor, like: Sequence[int]) -> Pending:
        arriving = x.new_empty(*like)
        return Pending(lambda: arriving)

    def with_split(self, frames: int, together: int = 1, ring: bool = False) -> CountedRanks | None:
        raise NotImplementedError
