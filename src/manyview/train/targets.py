"""Training targets as VGGT normalises them: the first camera's frame, mean distance of points as unit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..geometry.cameras import cameras_to_pose_encoding, relative_to_first
from ..synthetic import SceneBatch, correspondence
from .attention_loss import SoftMatches, soft_matches

Unit = Literal["mean", "median"]


@dataclass(frozen=True)
class Targets:
    """Targets of a batch of scenes; lengths are in units of each scene's `scale`.

    `points` are in the first camera's frame, `direction` is the unit vector from the first camera to the
    point at each patch's centre pixel, `matches` is None where attention is not supervised.
    """

    pose_encoding: Float[Tensor, "batch views 9"]
    z_depth: Float[Tensor, "batch views height width"]
    points: Float[Tensor, "batch views height width 3"]
    valid: Bool[Tensor, "batch views height width"]
    direction: Float[Tensor, "batch views patches 3"]
    direction_valid: Bool[Tensor, "batch views patches"]
    scale: Float[Tensor, " batch"]
    matches: SoftMatches | None


def scene_scale(
    points: Float[Tensor, "batch views height width 3"],
    valid: Bool[Tensor, "batch views height width"],
    unit: Unit = "mean",
) -> Float[Tensor, " batch"]:
    """Mean distance of the valid points of a scene from the origin (the first camera); VGGT, section 3.3.

    `unit` "median" is FlashVGGT's released training: the lower median, which far points do not move.
    """
    if unit == "median":
        distance = points.norm(dim=-1).masked_fill(~valid, torch.nan).flatten(1)
        return distance.nanmedian(1).values.nan_to_num(1e-6).clamp(min=1e-6)
    distance = torch.where(valid, points.norm(dim=-1), torch.zeros_like(points[..., 0]))
    count = valid.flatten(1).sum(1).clamp(min=1)
    return (distance.flatten(1).sum(1) / count).clamp(min=1e-6)


def make_targets(
    batch: SceneBatch, patch_size: int, matches: bool = False, far: float = 10.0, unit: Unit = "mean"
) -> Targets:
    """Normalise a rendered batch; points beyond `far` scene scales are left out of the dense losses.

    `unit`: see `scene_scale`.
    """
    height, width = batch.z_depth.shape[-2:]
    first_from_world = batch.cam_from_world[:, :1]
    rotation, translation = first_from_world[..., :3], first_from_world[..., 3]
    points = torch.einsum("bvij,bvhwj->bvhwi", rotation.expand(-1, batch.z_depth.shape[1], -1, -1),
                          batch.world_points) + translation[:, :, None, None]  # fmt: skip
    points = torch.where(batch.valid[..., None], points, torch.zeros_like(points))
    scale = scene_scale(points, batch.valid, unit)
    points = points / scale[:, None, None, None, None]
    z_depth = torch.where(batch.valid, batch.z_depth, torch.zeros_like(batch.z_depth))
    z_depth = z_depth / scale[:, None, None, None]

    cameras = relative_to_first(batch.cam_from_world)
    cameras = torch.cat([cameras[..., :3], cameras[..., 3:] / scale[:, None, None, None]], dim=-1)
    encoding = cameras_to_pose_encoding(cameras, batch.intrinsics, height, width)

    centre = slice(patch_size // 2, None, patch_size)
    at_patch = points[:, :, centre, centre].flatten(2, 3)
    direction = at_patch / at_patch.norm(dim=-1, keepdim=True).clamp(min=1e-6)
    near = batch.valid & (points.norm(dim=-1) < far)
    soft = None
    if matches:
        found = correspondence(batch, patch_size)
        grid = (height // patch_size, width // patch_size)
        pixels, visible = found.pixels.transpose(2, 3), found.visible.transpose(2, 3)
        soft = soft_matches(pixels, visible, grid, patch_size, found.source[0])
    return Targets(
        pose_encoding=encoding,
        z_depth=z_depth,
        points=points,
        valid=near,
        direction=direction,
        direction_valid=batch.valid[:, :, centre, centre].flatten(2, 3),
        scale=scale,
        matches=soft,
    )
