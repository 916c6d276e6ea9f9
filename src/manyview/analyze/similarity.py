"""Similarity of the queries, or the keys, of a head, which bounds merging (HTTM, arXiv 2511.21317)."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ..attention.layout import TokenLayout

PAIRS = ("neighbour", "next_frame", "random")


def cosines(x: Float[Tensor, "heads tokens dim"], layout: TokenLayout) -> dict[str, Float[Tensor, " heads"]]:
    """Mean cosine of each head over three kinds of pairs of patches; NaN where there is no such pair.

    `neighbour`: right neighbour in the same frame; `next_frame`: same place a frame later; `random`: any two
    patches of two different frames.
    """
    unit = torch.nn.functional.normalize(x.float(), dim=-1)
    frames = unit.unflatten(1, (layout.frames, -1))[:, :, layout.special_tokens :].unflatten(2, layout.grid)
    beside = (frames[..., 1:, :] * frames[..., :-1, :]).sum(-1).flatten(1).mean(1)
    later = (frames[:, 1:] * frames[:, :-1]).sum(-1).flatten(1).mean(1)
    # The mean over all pairs of different frames, from the sums of frames.
    sums = frames.sum((2, 3))
    pairs = sums.sum(1).square().sum(-1) - sums.square().sum((1, 2))
    count = layout.frames * (layout.frames - 1) * layout.patches_per_frame**2
    everywhere = pairs / count if count else torch.full_like(pairs, torch.nan)
    return dict(zip(PAIRS, (part.cpu() for part in (beside, later, everywhere)), strict=True))
