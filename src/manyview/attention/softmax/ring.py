"""Attention to the keys of all ranks, of which each rank holds those of two at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ...distributed.ranks import Ranks
from .logsumexp import attend_with_lse


def ring_attend(
    q: Float[Tensor, "batch heads queries dim"],
    k: Float[Tensor, "batch heads keys dim"],
    v: Float[Tensor, "batch heads keys dim"],
    ranks: Ranks,
) -> Float[Tensor, "batch heads queries dim"]:
    """softmax(q kᵀ/√d) v over the keys of all ranks, without gradients.

    Keys and values go from rank to rank while each attends to those that it has; the softmaxes are merged by
    their log-sum-exp in float32 or better, and rounded once.

    Args:
        q: Queries of this rank.
        k: Keys of this rank, as many for each of its frames as every rank has.
        v: Values of this rank.
        ranks: The ranks, which all call this.
    """
    split = ranks.split
    each = k.shape[2] // split.count
    pair = [x.movedim(2, 0).contiguous() for x in (k, v)]  # tokens first, as projections leave them in memory
    del k, v
    total, weight = None, None
    for step in range(1, split.ranks + 1):
        arriving = []
        if step < split.ranks:
            tokens = each * split.counts[(split.rank - step) % split.ranks]
            arriving = [ranks.to_next(x, (tokens, *x.shape[1:])) for x in pair]
        heads, lse = attend_with_lse(q, *(x.movedim(0, 2) for x in pair))
        if total is None or weight is None:
            total, weight = heads.to(lse.dtype), lse
        else:
            both = torch.logaddexp(weight, lse)
            total.mul_((weight - both).exp()[..., None]).addcmul_(heads, (lse - both).exp()[..., None])
            weight = both
        pair = [x.wait() for x in arriving]
    assert total is not None
    return total.to(q.dtype)
