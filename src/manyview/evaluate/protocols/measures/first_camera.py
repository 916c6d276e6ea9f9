"""Estimate and truth each in the frame of its first camera, and in units of its mean scene distance.

Several published codes compare in this frame (FastVGGT's ScanNet-50, FlashVGGT, Depth Anything 3). The first
camera is that of the first view that was given one.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ....geometry.cameras import compose_rigid, invert_rigid
from ..scene_pair import ScenePair


def first_view(pair: ScenePair) -> int:
    """The first view that was given a camera; 0 where none was."""
    return int(np.isfinite(pair.found_cameras).all((1, 2)).argmax())


def from_first_camera(pair: ScenePair) -> tuple[Float[Tensor, "views 3 4"], Float[Tensor, "views 3 4"]]:
    """(found, true) cam_from_first cameras, float64: the first camera of each becomes [I | 0]."""
    first = first_view(pair)
    found, truth = torch.from_numpy(pair.found_cameras).double(), torch.from_numpy(pair.true_cameras).double()
    return _relative(found, first), _relative(truth, first)


def scene_scales(pair: ScenePair) -> tuple[float, float] | None:
    """(of the estimate, of the truth): the mean distance of the points from the first camera.

    Over the pixels where both have a point, each side in its own unit (VGGT's normalisation of training
    scenes, which FlashVGGT's evaluation takes over). None where there is no such pixel, or no distance.
    """
    if pair.true_points is None or pair.found_points.shape != pair.true_points.shape:
        return None
    both = np.isfinite(pair.true_points).all(-1) & np.isfinite(pair.found_points).all(-1)
    first, scales = first_view(pair), []
    for points, cameras in ((pair.found_points, pair.found_cameras), (pair.true_points, pair.true_cameras)):
        camera = cameras[first].astype(np.float64)
        own = points[both].astype(np.float64) @ camera[:, :3].T + camera[:, 3]
        scales.append(float(np.linalg.norm(own, axis=1).mean()) if len(own) else 0.0)
    found, true = scales
    return (found, true) if np.isfinite(scales).all() and min(scales) > 1e-12 else None


def _relative(cam_from_world: Float[Tensor, "views 3 4"], first: int) -> Float[Tensor, "views 3 4"]:
    world_from_first = invert_rigid(cam_from_world[first : first + 1])
    return compose_rigid(cam_from_world, world_from_first.expand_as(cam_from_world))
