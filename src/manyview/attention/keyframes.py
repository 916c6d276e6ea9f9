"""Frames that stand for clusters of similar frames, the same ones in every run."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .layout import TokenLayout

_FRAMES_PER_CLUSTER = 200
_ROUNDS = 25


def cluster_count(layout: TokenLayout, keyframes: int | None) -> int:
    """Clusters of frames: as asked, or floor(frames / 200); a single cluster is none.

    Source: FlashVGGT (arXiv 2512.01540), where up to one cluster leaves only the reference frame.
    """
    wanted = layout.frames // _FRAMES_PER_CLUSTER if keyframes is None else min(keyframes, layout.frames)
    return wanted if wanted > 1 else 0


def full_frame_count(layout: TokenLayout, keyframes: int | None) -> int:
    """Frames kept whole: the reference frame, if there is one, and a frame for each cluster."""
    return int(layout.reference_frame is not None) + cluster_count(layout, keyframes)


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
