"""Which few frames stand for all: spread evenly in time, or covering what the frames show."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


def evenly(frames: int, count: int, first: int | None = 0) -> list[int]:
    """`count` different frames evenly in time, `first` (if any) among them, in order."""
    count = min(count, frames)
    chosen = [int((2 * i + 1) * frames / (2 * count)) for i in range(count)]
    if first is not None and first not in chosen:
        nearest = min(range(count), key=lambda i: abs(chosen[i] - first))
        chosen[nearest] = first
    return sorted(chosen)


def covering(
    features: Float[Tensor, "batch frames dim"], count: int, first: int | None = 0
) -> Int[Tensor, "batch count"]:
    """Farthest-point sampling by cosine distance: each next frame is the one least like those chosen.

    Starts at frame `first`, or where there is none at the frame most like the mean. The first n of a longer
    choice are the choice of n. Equal distances go to the earlier frame.
    """
    batch, frames, _ = features.shape
    count = min(count, frames)
    centred = features.float() - features.float().mean(1, keepdim=True)
    unit = F.normalize(centred, dim=-1)
    rows = torch.arange(batch, device=features.device)
    if first is None:
        latest = centred.norm(dim=-1).argmin(1)
    else:
        latest = torch.full((batch,), first, device=features.device)
    nearest = torch.full((batch, frames), float("inf"), device=features.device)
    chosen = [latest]
    for _ in range(count - 1):
        distance = 1 - torch.einsum("bfd,bd->bf", unit, unit[rows, latest])
        nearest = torch.minimum(nearest, distance)
        nearest[rows, latest] = float("-inf")
        latest = nearest.argmax(1)
        chosen.append(latest)
    return torch.stack(chosen, 1)
