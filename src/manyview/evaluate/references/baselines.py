"""Image-independent baselines: what chance, or the average of the ground truth alone, would score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ...geometry.cameras import compose_rigid, invert_rigid, relative_to_first
from ...synthetic import SceneBatch
from ..metrics.alignment import nearest_rotation


@dataclass(frozen=True, eq=False)
class Baseline:
    """Cameras and z-depth that depend on no pixel."""

    cam_from_world: Float[Tensor, "*scenes views 3 4"]
    z_depth: Float[Tensor, "*scenes views height width"]


def identity(*shape: int, seed: int, dtype: torch.dtype = torch.float64) -> Baseline:
    """Chance: no rotation, random camera centres, constant depth.

    The centres are random because equal ones leave the direction between two cameras undefined, which counts
    as an error beyond every threshold.

    Args:
        shape: (*scenes, views, height, width).
        seed: Of the camera centres.
        dtype: In which they are drawn.
    """
    *views, _, _ = shape
    generator = torch.Generator().manual_seed(seed)
    translation = torch.randn(*views, 3, 1, generator=generator, dtype=dtype)
    rotation = torch.eye(3, dtype=dtype).expand(*views, 3, 3)
    return Baseline(torch.cat([rotation, translation], -1), torch.ones(shape))


def mean_step(
    cam_from_world: Float[Tensor, "views 3 4"],
    z_depth: Float[Tensor, "views height width"] | None,
    shape: tuple[int, int],
) -> Baseline:
    """The best constant motion, from the ground truth itself.

    From each view to the next the mean of the true steps (rotation: chordal mean), and in each pixel the mean
    true depth, the median of all where no view has any, one without depth at all.
    """
    cameras = cam_from_world.double()
    chain = [torch.eye(4, dtype=torch.float64)[:3]]
    if len(cameras) > 1:
        mean = compose_rigid(cameras[1:], invert_rigid(cameras[:-1])).mean(0)
        step = torch.cat([nearest_rotation(mean[:, :3]), mean[:, 3:]], -1)
        for _ in cameras[1:]:
            chain.append(compose_rigid(step, chain[-1]))
    depth = torch.ones(shape)
    if z_depth is not None and bool(z_depth.isfinite().any()):
        known = z_depth.nanmean(0)
        depth = torch.where(known.isfinite(), known, z_depth.nanmedian())
    return Baseline(torch.stack(chain), depth.expand(len(cameras), *shape))


def mean_pose(batches: Sequence[SceneBatch]) -> Baseline:
    """The mean over scenes: for each view's place in the sequence the mean camera relative to the first view
    and the mean depth map, each scene in units of its mean depth. One scene."""
    cameras, depths = [], []
    for batch in batches:
        valid = batch.valid.to(batch.z_depth.dtype)
        scale = (batch.z_depth.nan_to_num() * valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
        relative = relative_to_first(batch.cam_from_world)
        cameras.append(torch.cat([relative[..., :3], relative[..., 3:] / scale[:, None, None, None]], -1))
        depths.append(
            torch.where(batch.valid, batch.z_depth / scale[:, None, None, None], torch.ones_like(valid))
        )
    mean = torch.cat(cameras).double().mean(0)
    camera = torch.cat([nearest_rotation(mean[..., :3]), mean[..., 3:]], -1).float()
    return Baseline(camera[None], torch.cat(depths).mean(0)[None])
