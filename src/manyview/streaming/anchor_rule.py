"""When a frame of a stream becomes an anchor, from the features of the encoder."""

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

    Features are mean tokens after the encoder, distances Euclidean. The spacing adapts to network and scene,
    and it grows as anchors are added that lie further apart.
    """
    nearest = torch.cdist(frames, anchors).amin(1)
    uncovered = (nearest > beyond * spacing(anchors)).nonzero()
    return int(uncovered[0]) if len(uncovered) else None
