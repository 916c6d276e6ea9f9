"""Depth of one view against its neighbours, from coarse to fine."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.nn import functional as F

from .cost import cost_volume
from .options import StereoOptions
from .smoothing import cheapest_label, smooth_costs
from .warp import Cameras, Warp

_FEWEST_PLANES = 32
_FINER, _REACH = (
    4,
    8,
)  # a finer size searches so many parts of a label before it, up to so many on either side
_MEDIAN = 5


def search_depth(
    images: UInt8[Tensor, "views height width"],
    cameras: Cameras,
    view: int,
    others: Int[np.ndarray, " others"],
    inverse_range: tuple[float, float],
    options: StereoOptions,
    start: Float[Tensor, "height width"] | None = None,
) -> tuple[Float[Tensor, "height width"], Float[Tensor, "height width"]]:
    """Inverse depth of every pixel of a view, and its cost (0 to 1; see `cost_volume`).

    A plane sweep at a quarter of the pixels or fewer, then sizes twice as large that search around what was
    found; semi-global matching at each.

    Args:
        images: Grey levels of all views.
        cameras: Of all views.
        view: The one whose depth is searched.
        others: Those that it is compared with.
        inverse_range: Least and most inverse depth.
        options: See there.
        start: Inverse depth to search around at the full size, in place of the sweep.
    """
    device = images.device
    chosen = images[torch.as_tensor([view, *others.tolist()], device=device)]
    low, high = inverse_range
    rows, columns = images.shape[1:]
    sizes = _sizes(rows, columns, options.coarsest)
    warp = Warp.between(cameras, view, others, *sizes[0], device)
    labels = _planes(warp, inverse_range, options.planes)
    spacing = (high - low) / (labels - 1)
    steps = torch.arange(-_REACH, _REACH + 1, device=device)[:, None, None]
    found = start
    for level, (height, width) in enumerate(sizes):
        if level:
            spacing /= _FINER
        if start is not None and level < len(sizes) - 1:
            continue
        if level:
            warp = Warp.between(cameras, view, others, height, width, device)
        if found is None:
            first: Tensor | float = low
            inverse = low + torch.arange(labels, device=device)[:, None, None] * spacing
        else:
            around = F.interpolate(_median(found)[None, None], (height, width), mode="bilinear")[0, 0]
            first = around - _REACH * spacing
            inverse = (around + steps * spacing).clamp_(min=low / 4)
        grey = _at_size(chosen, height, width)
        volume = cost_volume(grey[0], grey[1:], warp, inverse, options.window, options.best)
        label, whole = cheapest_label(smooth_costs(volume, grey[0]))
        found = first + label * spacing
        cost = volume.gather(-1, whole[..., None])[..., 0]
    assert found is not None
    return found.clamp_(min=low / 4), cost


def _sizes(height: int, width: int, coarsest: int) -> list[tuple[int, int]]:
    """Sizes to search at, the smallest first; the last one twice where it is the only one."""
    halvings = 0
    while max(height, width) / 2**halvings > 1.5 * coarsest:
        halvings += 1
    sizes = [(round(height / 2**n), round(width / 2**n)) for n in range(halvings, -1, -1)]
    return sizes if halvings else sizes * 2


def _at_size(
    images: UInt8[Tensor, "n rows columns"], height: int, width: int
) -> Float[Tensor, "n height width"]:
    grey = images.float().div_(255)
    if grey.shape[1:] == (height, width):
        return grey
    return F.interpolate(grey[:, None], (height, width), mode="area")[:, 0]


def _planes(warp: Warp, inverse_range: tuple[float, float], most: int) -> int:
    """Number of depths, so that one step moves a pixel by about one pixel in a typical neighbour."""
    height, width = warp.turned.shape[2:]
    low, high = inverse_range
    middle, part = (low + high) / 2, (high - low) / 100
    (start, _), (end, _) = (warp.lenses(warp.points(torch.tensor(middle + sign * part))) for sign in (-1, 1))
    moved = ((end - start) * torch.tensor([width / 2, height / 2], device=start.device)).norm(dim=-1)
    pixels = float(moved.flatten(1).nanmedian(dim=1).values.nanmedian()) * 50
    return int(np.clip(np.ceil(np.nan_to_num(pixels)), _FEWEST_PLANES, max(most, _FEWEST_PLANES)))


def _median(values: Float[Tensor, "height width"]) -> Float[Tensor, "height width"]:
    half = _MEDIAN // 2
    padded = F.pad(values[None, None], (half,) * 4, mode="replicate")[0, 0]
    return padded.unfold(0, _MEDIAN, 1).unfold(1, _MEDIAN, 1).flatten(2).median(-1).values
