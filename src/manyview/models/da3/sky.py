"""Sky in the outputs of Depth Anything 3: where it is, and what depth it gets (arXiv 2511.10647)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...distributed.ranks import Ranks

NETWORK_THRESHOLD = 0.3
"""Sky score from which the networks themselves take a pixel for sky."""
USER_THRESHOLD = 0.5
"""Sky score from which a pixel is marked as sky in `Predictions`."""

LEAST_PIXELS = 10
_FAR = 0.99


def counts(*masks: Bool[Tensor, "*batch height width"], ranks: Ranks | None) -> list[int]:
    """How often each mask is true, with `ranks` in the scene."""
    found = torch.stack([mask.sum() for mask in masks])
    numbers: list[int] = (found if ranks is None else ranks.sum(found)).tolist()
    return numbers


def kth_value(values: Float[Tensor, " n"], rank: int, ranks: Ranks | None) -> Float[Tensor, ""]:
    """The value with `rank` smaller ones before it, counted from 0, with `ranks` of the scene's values."""
    if ranks is not None:
        return ranks.kth_value(values, rank).to(values.dtype)
    return values.kthvalue(1 + rank).values


def far_depth(
    z_depth: Float[Tensor, " own"], pixels: int | None = None, ranks: Ranks | None = None
) -> Float[Tensor, ""]:
    """The 0.99 quantile, interpolated, of any number of pixels; with `ranks` of `pixels` of the scene."""
    pixels = len(z_depth) if pixels is None else pixels
    place = _FAR * (pixels - 1)
    below = int(place)
    low, high = (kth_value(z_depth, rank, ranks) for rank in (below, min(below + 1, pixels - 1)))
    return torch.lerp(low, high, place - below)


def with_far_sky(
    z_depth: Float[Tensor, "*batch height width"],
    sky: Bool[Tensor, "*batch height width"],
    ranks: Ranks | None = None,
) -> Float[Tensor, "*batch height width"]:
    """Depth of single views whose sky is at the far end of everything else, over all of them together.

    Unchanged unless there are more than `LEAST_PIXELS` pixels of sky and of everything else.
    """
    seen, skies = counts(~sky, sky, ranks=ranks)
    if min(seen, skies) <= LEAST_PIXELS:
        return z_depth
    return torch.where(sky, far_depth(z_depth[~sky], seen, ranks), z_depth)
