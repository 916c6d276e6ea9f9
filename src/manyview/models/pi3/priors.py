"""What may be known beforehand: cameras, intrinsics, depth; some or all of it, for some or all frames."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...errors import UsageError

_STILL = 0.02  # cameras that close together say nothing about scale


@dataclasses.dataclass(frozen=True)
class Priors:
    """Known parts of an input of [B, S, 3, H, W] images; None is unknown.

    The masks [B, S] choose frames (None: all). `world_from_cam` is in any world and any unit of length,
    `intrinsics` in pixels, `z_depth` in the unit of the cameras (0 or less: unknown pixel).
    """

    world_from_cam: Float[Tensor, "batch frames 4 4"] | None = None
    intrinsics: Float[Tensor, "batch frames 3 3"] | None = None
    z_depth: Float[Tensor, "batch frames height width"] | None = None
    has_pose: Bool[Tensor, "batch frames"] | None = None
    has_intrinsics: Bool[Tensor, "batch frames"] | None = None
    has_depth: Bool[Tensor, "batch frames"] | None = None

    def to(self, device: torch.device) -> Priors:
        """The same on a device."""
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Priors(**{name: None if t is None else t.to(device) for name, t in tensors.items()})

    def check(self, batch: int, frames: int, height: int, width: int) -> None:
        """UsageError for anything that does not belong to images of that shape."""
        shapes = {
            "world_from_cam": (batch, frames, 4, 4),
            "intrinsics": (batch, frames, 3, 3),
            "z_depth": (batch, frames, height, width),
            **dict.fromkeys(("has_pose", "has_intrinsics", "has_depth"), (batch, frames)),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise UsageError(f"the known {name} must have shape {shape}, not {tuple(value.shape)}")


def mask_of(given: Tensor | None, like: Tensor) -> Bool[Tensor, "batch frames"]:
    """The mask, or all frames."""
    if given is not None:
        return given.to(device=like.device, dtype=torch.bool)
    return torch.ones(like.shape[:2], dtype=torch.bool, device=like.device)


def depth_scale(z_depth: Float[Tensor, "batch frames h w"]) -> Float[Tensor, " batch"]:
    """Mean of the positive depths of each scene, also those of masked frames (as released)."""
    valid = z_depth > 0
    total = torch.where(valid, z_depth, torch.zeros_like(z_depth)).flatten(1).sum(1)
    return total / valid.flatten(1).sum(1).clamp(min=1) + 1e-8


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
