"""Known cameras and depth as Pi3X takes them in: rays, and poses and depth in units of the scene."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...distributed.ranks import Ranks
from ..priors import Priors as Priors  # the documented place until 0.2; imports of it move

_STILL = 0.02  # cameras that close together say nothing about scale


def mask_of(given: Tensor | None, like: Tensor) -> Bool[Tensor, "batch frames"]:
    """The mask, or all frames."""
    if given is not None:
        return given.to(device=like.device, dtype=torch.bool)
    return torch.ones(like.shape[:2], dtype=torch.bool, device=like.device)


def depth_scale(
    z_depth: Float[Tensor, "batch frames h w"], ranks: Ranks | None = None
) -> Float[Tensor, " batch"]:
    """Mean of the positive depths of each scene, also those of masked frames (as released)."""
    valid = z_depth > 0
    total = torch.where(valid, z_depth, torch.zeros_like(z_depth)).flatten(1).sum(1)
    count = valid.flatten(1).sum(1)
    if ranks is not None:
        total, count = ranks.sum(total), ranks.sum(count)
    return total / count.clamp(min=1) + 1e-8


def rays_of(
    intrinsics: Float[Tensor, "batch frames 3 3"], height: int, width: int
) -> Float[Tensor, "batch frames 2 h w"]:
    """x/z and y/z of the ray through each pixel centre."""
    x = torch.arange(width, device=intrinsics.device) + 0.5
    y = torch.arange(height, device=intrinsics.device) + 0.5
    k = intrinsics[..., None, None]
    rays_x = (x - k[:, :, 0, 2]) / k[:, :, 0, 0]
    rays_y = (y[:, None] - k[:, :, 1, 2]) / k[:, :, 1, 1]
    return torch.stack([rays_x.expand(-1, -1, height, -1), rays_y.expand(-1, -1, -1, width)], 2)


def relative_poses(
    world_from_cam: Float[Tensor, "batch frames 4 4"],
    known: Bool[Tensor, "batch frames"],
    scale: Float[Tensor, " batch"] | None,
) -> Float[Tensor, "batch frames 4 4"]:
    """Poses relative to frame 0, translations in units of `scale`, or else of their own mean length."""
    relative = torch.linalg.inv(world_from_cam[:, :1].float()) @ world_from_cam.float()
    length = relative[..., :3, 3].norm(dim=-1)
    if scale is None:
        unit = length[:, 1:].mean(1)
        unit = torch.where(length.amax(1) < _STILL, torch.ones_like(unit), unit)
    else:
        unit = scale
    factor = torch.ones_like(relative)
    factor[..., :3, 3] = (1 / unit)[:, None, None]
    return relative * factor
