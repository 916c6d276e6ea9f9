"""Sky in the outputs of Depth Anything 3: where it is, and what depth it gets (arXiv 2511.10647)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NETWORK_THRESHOLD = 0.3
"""Sky score from which the networks themselves take a pixel for sky."""
USER_THRESHOLD = 0.5
"""Sky score from which a pixel is marked as sky in `Predictions`."""

LEAST_PIXELS = 10
_FAR = 0.99


def far_depth(z_depth: Float[Tensor, " pixels"]) -> Float[Tensor, ""]:
    """The 0.99 quantile, interpolated, of any number of pixels."""
    place = _FAR * (len(z_depth) - 1)
    below = int(place)
    low, high = (z_depth.kthvalue(1 + rank).values for rank in (below, min(below + 1, len(z_depth) - 1)))
    return torch.lerp(low, high, place - below)


def with_far_sky(
    z_depth: Float[Tensor, "*batch height width"], sky: Bool[Tensor, "*batch height width"]
) -> Float[Tensor, "*batch height width"]:
    """Depth of single views whose sky is at the far end of everything else, over all of them together.

    Unchanged unless there are more than `LEAST_PIXELS` pixels of sky and of everything else.
    """
    others = z_depth[~sky]
    if len(others) <= LEAST_PIXELS or int(sky.sum()) <= LEAST_PIXELS:
        return z_depth
    return torch.where(sky, far_depth(others), z_depth)
