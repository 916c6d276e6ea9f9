"""Which depths other views confirm: there by one's own depth, and back by theirs."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .options import StereoOptions
from .warp import Cameras, Lenses, Warp, sample, tensor

_WHOLLY = 0.99  # usable, with all pixels around


def agreeing_views(
    inverse_depth: Float[Tensor, "views height width"],
    usable: Bool[Tensor, "views height width"],
    cameras: Cameras,
    view: int,
    others: Int[np.ndarray, " others"],
    options: StereoOptions,
) -> tuple[Float[Tensor, "height width"], Int[Tensor, "height width"]]:
    """Depth of a view, averaged with the depths of views that agree, and how many agree at each pixel.

    Args:
        inverse_depth: Of all views.
        usable: Pixels of all views that may confirm.
        cameras: Of all views.
        view: The one that is confirmed.
        others: Those that may confirm it.
        options: `reprojection` and `relative_depth` say what agrees.
    """
    device, (height, width) = inverse_depth.device, inverse_depth.shape[1:]
    depth = 1 / inverse_depth[view]
    pixels = torch.tensor([width / 2, height / 2], device=device)  # of one unit of places
    warp = Warp.between(cameras, view, others, height, width, device)
    lens = Lenses.of(cameras, np.array([view]), device)
    own, _ = lens(tensor(np.moveaxis(cameras.rays(view, height, width), -1, 0)[None], device))
    total, count = depth.clone(), torch.zeros_like(depth, dtype=torch.int32)
    for place, other in enumerate(others.tolist()):
        there = warp.only(place)
        points = there.points(inverse_depth[view])
        places, inside = there.lenses(points)
        theirs = 1 / sample(inverse_depth[other][None], places)
        inside &= sample(usable[other][None].float(), places) > _WHOLLY
        # The same ray of the other camera, at its own depth, seen from here.
        found = there.back(points / points[:, 2:] * theirs[:, None])
        again, in_image = lens(found)
        error = ((again - own) * pixels).norm(dim=-1)
        agrees = inside & in_image & (error < options.reprojection)
        agrees &= (found[:, 2] - depth).abs() < options.relative_depth * depth
        total += torch.where(agrees, found[:, 2], 0.0)[0]
        count += agrees[0]
    return total / (count + 1), count


def seen_from_others(
    inverse_depth: Float[Tensor, "views height width"],
    confirmed: Bool[Tensor, "views height width"],
    cameras: Cameras,
    view: int,
    others: Int[np.ndarray, " others"],
) -> Float[Tensor, "height width"]:
    """Inverse depth of the nearest confirmed point of other views at each pixel of a view; 0 without one."""
    height, width = inverse_depth.shape[1:]
    nearest = inverse_depth.new_zeros(height * width)
    for other in others.tolist():
        warp = Warp.between(cameras, other, np.array([view]), height, width, inverse_depth.device)
        points = warp.points(inverse_depth[other])
        places, inside = warp.lenses(points)
        x = ((places[0, ..., 0] + 1) * (width / 2)).nan_to_num().long().clamp_(0, width - 1)
        y = ((places[0, ..., 1] + 1) * (height / 2)).nan_to_num().long().clamp_(0, height - 1)
        inverse = torch.where(inside[0] & confirmed[other], inverse_depth[other] / points[0, 2], 0.0)
        nearest.scatter_reduce_(0, (y * width + x).flatten(), inverse.flatten(), "amax")
    return nearest.view(height, width)
