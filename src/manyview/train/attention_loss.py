"""Supervise two heads of a global layer with exact correspondences.

Attention learns to match by itself only after thousands of scenes; the exact correspondences of
procedural scenes halve that. Head 0 attends to the point in the first frame, head 1 in any other frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .losses import masked_mean


@dataclass(frozen=True)
class SoftMatches:
    """Bilinear targets over patches: where each patch centre lies in each other frame.

    `index` holds four patch numbers (row-major) in frame `t`, `weight` their bilinear weights (they add
    up to one) and `visible` whether the point is seen there.
    """

    index: Int[Tensor, "batch frames patches frames 4"]
    weight: Float[Tensor, "batch frames patches frames 4"]
    visible: Bool[Tensor, "batch frames patches frames"]


def soft_matches(
    pixels: Float[Tensor, "batch frames patches frames 2"],
    visible: Bool[Tensor, "batch frames patches frames"],
    grid: tuple[int, int],
    patch_size: int,
    first: Float[Tensor, " 2"],
) -> SoftMatches:
    """Turn pixel positions (x, y) into bilinear weights over the four nearest patches.

    `first` is the pixel (x, y) at the centre of patch 0.
    """
    rows, columns = grid
    x = ((pixels[..., 0] - first[0]) / patch_size).clamp(0, columns - 1)
    y = ((pixels[..., 1] - first[1]) / patch_size).clamp(0, rows - 1)
    x = torch.where(visible, x, torch.zeros_like(x))
    y = torch.where(visible, y, torch.zeros_like(y))
    left = x.floor().clamp(max=max(columns - 2, 0))
    top = y.floor().clamp(max=max(rows - 2, 0))
    fx, fy = x - left, y - top
    right, bottom = (left + 1).clamp(max=columns - 1), (top + 1).clamp(max=rows - 1)
    index = torch.stack([top * columns + left, top * columns + right,
                         bottom * columns + left, bottom * columns + right], -1)  # fmt: skip
    weight = torch.stack([(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx], -1)
    return SoftMatches(index.long(), weight, visible)


def attention_loss(
    q: Float[Tensor, "batch heads tokens dim"],
    k: Float[Tensor, "batch heads tokens dim"],
    matches: SoftMatches,
    special_tokens: int,
    most_queries: int | None = None,
) -> Float[Tensor, ""]:
    """Cross entropy (nats per patch) of heads 0 and 1 against the soft correspondences.

    Head 0: patches of every frame but the first, softmax over the patches of all frames, target in the
    first frame. Head 1: softmax over the patches of the other frames, target spread evenly over the frames
    that see the point. Patches seen nowhere else are left out. `q`, `k` are after qk-norm and positions.
    `most_queries` patches of each scene are queries (None: all), sampled by a seed from the batch.
    """
    batch, frames, patches = matches.visible.shape[:3]
    total = frames * patches
    shape = (batch, 2, frames, -1, q.shape[-1])
    queries = q[:, :2].float().reshape(shape)[:, :, :, special_tokens:].flatten(2, 3)
    keys = k[:, :2].float().reshape(shape)[:, :, :, special_tokens:].flatten(2, 3)
    chosen = torch.arange(total, device=q.device)
    if most_queries is not None and most_queries < total:
        generator = torch.Generator().manual_seed(int(matches.index.sum()))
        chosen = torch.randperm(total, generator=generator)[:most_queries].sort().values.to(q.device)
    index, weight = (part.flatten(1, 2)[:, chosen] for part in (matches.index, matches.weight))
    visible = matches.visible.flatten(1, 2)[:, chosen]
    logits = queries[:, :, chosen] @ keys.transpose(-1, -2) * q.shape[-1] ** -0.5

    first = logits[:, 0].log_softmax(-1)
    to_first = first[..., :patches].gather(-1, index[..., 0, :])
    nll_first = -(to_first * weight[..., 0, :]).sum(-1)
    frame = torch.arange(frames, device=q.device)
    of_query = chosen // patches
    seen_first = visible[..., 0] & (of_query != 0)

    same_frame = (of_query[:, None] == frame).repeat_interleave(patches, 1)
    other = logits[:, 1].masked_fill(same_frame, float("-inf")).log_softmax(-1)
    # The query's frame is never a target; -inf times a weight of zero would be NaN.
    other = other.masked_fill(same_frame, 0.0).unflatten(-1, (frames, patches))
    to_other = (other.gather(-1, index) * weight).sum(-1)
    seen_other = (visible & (frame != of_query[:, None])).to(other.dtype)
    count = seen_other.sum(-1)
    nll_other = -(to_other * seen_other).sum(-1) / count.clamp(min=1)

    return 0.5 * (masked_mean(nll_first, seen_first) + masked_mean(nll_other, count > 0))
