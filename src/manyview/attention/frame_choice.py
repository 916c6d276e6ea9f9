"""Which few frames stand for all: spread evenly in time, or covering what the frames show."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .protocols import LayerInput

_ROUNDS = 25


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


def covering_frames(layer: LayerInput, count: int) -> Int[Tensor, "batch count"]:
    """`covering` frames by the features of the forward pass, chosen once for all its layers."""
    first, device = layer.whole.reference_frame, layer.tokens.device

    def choose() -> Tensor:
        return covering(layer.run.features(), count, first).to(device)

    return layer.run.once(("covering", count), choose)


@torch.no_grad()
def cluster_members(
    features: Float[Tensor, "batch frames dim"], clusters: int
) -> Int[Tensor, "batch clusters"]:
    """Frame nearest to each k-means centre of `features`; a frame nearest to two centres comes twice.

    Centres start at frame 0 and then at the frame farthest from those chosen, so that nothing is random
    (the published code draws eight random starts, which differ between devices). Lloyd's iteration runs a
    fixed number of rounds and needs no word from the device; an empty cluster keeps its centre.
    """
    points = features.float()
    points = points - points.mean(1, keepdim=True)
    chosen = [torch.zeros(points.shape[0], 1, dtype=torch.long, device=points.device)]
    nearest = _distances(points, _take(points, chosen[0])).squeeze(-1)
    for _ in range(clusters - 1):
        chosen.append(nearest.argmax(1, keepdim=True))
        nearest = torch.minimum(nearest, _distances(points, _take(points, chosen[-1])).squeeze(-1))
    centres = _take(points, torch.cat(chosen, 1))
    for _ in range(_ROUNDS):
        labels = _distances(points, centres).argmin(2)
        member = torch.nn.functional.one_hot(labels, clusters).to(points.dtype).transpose(1, 2)
        size = member.sum(2, keepdim=True)
        centres = torch.where(size > 0, _product(member, points) / size.clamp(min=1), centres)
    return _distances(points, centres).argmin(1)


def _take(points: Tensor, index: Tensor) -> Tensor:
    return points.gather(1, index[..., None].expand(-1, -1, points.shape[-1]))


def _product(a: Tensor, b: Tensor) -> Tensor:
    # Autocast would round distances to half precision and let near ties fall differently.
    device = a.device.type if torch.amp.is_autocast_available(a.device.type) else "cpu"
    with torch.autocast(device, enabled=False):
        return a @ b


def _distances(points: Tensor, centres: Tensor) -> Float[Tensor, "batch frames centres"]:
    cross = _product(points, centres.transpose(1, 2))
    return (points**2).sum(-1, keepdim=True) - 2 * cross + (centres**2).sum(-1)[:, None]
