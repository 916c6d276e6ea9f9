"""How well patches of one view agree with those of others: normalised cross-correlation, best views only."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from .warp import Warp, sample

_NOISE = 2e-5
"""Variance of grey levels (of 0 to 1) that is noise: patches without texture correlate with nothing."""
_PIXELS_AT_ONCE = {"cpu": 40_000, "other": 4_000_000}  # on a CPU what stays in its caches


def cost_volume(
    image: Float[Tensor, "height width"],
    others: Float[Tensor, "others height width"],
    warp: Warp,
    inverse_depths: Float[Tensor, "labels *#size"],
    window: int,
    best: int,
) -> Float[Tensor, "height width labels"]:
    """Cost of each pixel at each of its inverse depths, from 0 (patches agree) to 1 (they do not).

    1 - ZNCC, at least 0, averaged over the `best` views. Every pixel of a patch is moved by its own inverse
    depth, so patches may be slanted; `inverse_depths` then vary from pixel to pixel.
    """
    height, width = image.shape
    labels = len(inverse_depths)
    halo = window // 2
    rows = max(2 * window, _PIXELS_AT_ONCE["cpu" if image.device.type == "cpu" else "other"] // width)
    volume = image.new_empty(labels, height, width)
    for start in range(0, height, rows):
        stop = min(start + rows, height)
        first, last = max(start - halo, 0), min(stop + halo, height)
        patch = _Patches(image[first:last], window)
        part = warp.rows(slice(first, last))
        for label in range(labels):
            depth = inverse_depths[label]
            depth = depth[first:last] if len(depth) > 1 else depth
            cost = patch.cost(others, part, depth, best)
            volume[label, start:stop] = cost[start - first : stop - first]
    return volume.permute(1, 2, 0).contiguous()


class _Patches:
    """The patches around the pixels of one view, with their means and variances."""

    def __init__(self, image: Float[Tensor, "rows width"], window: int) -> None:
        self.window = window
        self.image = image - 0.5
        self.share = 1 / box_sum(torch.ones_like(image)[None], window)
        mean, square = box_sum(torch.stack([self.image, self.image.square()]), window) * self.share
        self.mean, self.variance = mean, (square - mean.square()).clamp_(min=0).add_(_NOISE)

    def cost(
        self,
        others: Float[Tensor, "others height width"],
        warp: Warp,
        inverse_depth: Float[Tensor, "#rows #width"],
        best: int,
    ) -> Float[Tensor, "rows width"]:
        places, inside = warp.lenses(warp.points(inverse_depth))
        found = sample(others, places).sub_(0.5)
        sums = box_sum(torch.cat([found, found.square(), found * self.image]), self.window).mul_(self.share)
        mean, square, product = sums.unflatten(0, (3, -1)).unbind()
        variance = (square - mean.square()).clamp_(min=0).add_(_NOISE)
        correlation = (product - mean * self.mean) * (variance * self.variance).rsqrt_()
        return mean_of_best(torch.where(inside, 1 - correlation, 1.0).clamp_(0, 1), best)


def box_sum(maps: Float[Tensor, "n height width"], window: int) -> Float[Tensor, "n height width"]:
    """Sum over the square of `window` pixels (odd) around each pixel, zero beyond the edges."""
    half = window // 2
    for axis in (-1, -2):
        size = maps.shape[axis]
        padded = F.pad(maps, (half, half) if axis == -1 else (0, 0, half, half))
        total = padded.narrow(axis, 0, size) + padded.narrow(axis, 1, size)
        for offset in range(2, window):
            total += padded.narrow(axis, offset, size)
        maps = total
    return maps


def mean_of_best(costs: Float[Tensor, "others height width"], best: int) -> Float[Tensor, "height width"]:
    """Mean of the `best` smallest costs, by comparing and exchanging: faster than sorting a few maps."""
    kept: list[Tensor] = []
    for cost in costs:
        for place, smaller in enumerate(kept):
            kept[place], cost = torch.minimum(smaller, cost), torch.maximum(smaller, cost)
        if len(kept) < best:
            kept.append(cost)
    return torch.stack(kept).mean(0)
