"""When the anchors of a stream no longer cover what it shows: a rule of features alone."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def spacing(anchors: Float[Tensor, "anchors dim"]) -> float:
    """Mean distance from an anchor to the anchor nearest to it; 0 for a single one."""
    if len(anchors) < 2:
        return 0.0
    apart = torch.cdist(anchors, anchors)
    return apart.fill_diagonal_(float("inf")).amin(1).mean().item()


def first_uncovered(
    frames: Float[Tensor, "frames dim"], anchors: Float[Tensor, "anchors dim"], beyond: float
) -> int | None:
    """The first frame further from every anchor than `beyond` times the anchors' own spacing; None: none is.

    Features are mean tokens after the encoder, distances Euclidean. The spacing is the scale of the network
    and of the scene at once, and it rises as anchors are added that lie further apart: a stream that starts
    standing still gets anchors fast and then ever fewer.
    """
    nearest = torch.cdist(frames, anchors).amin(1)
    uncovered = (nearest > beyond * spacing(anchors)).nonzero()
    return int(uncovered[0]) if len(uncovered) else None
