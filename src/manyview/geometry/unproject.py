"""From z-depth and cameras to points, and back.

Two pixel-centre conventions exist: "half" puts the centre of the first pixel at (0.5, 0.5), which
matches a principal point at (W/2, H/2); "integer" puts it at (0, 0), which is what upstream VGGT uses
when it unprojects, against that same principal point. "half" is consistent and the default;
"integer" reproduces upstream.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from .cameras import invert_rigid

PixelCentres = Literal["half", "integer"]


def pixel_grid(
    height: int, width: int, pixel_centres: PixelCentres = "half", *, like: Tensor
) -> Float[Tensor, "height width 2"]:
    """(x, y) of every pixel centre, in the dtype and on the device of `like`."""
    if pixel_centres not in ("half", "integer"):
        raise ValueError(f"pixel_centres must be 'half' or 'integer', not {pixel_centres!r}")
    offset = 0.5 if pixel_centres == "half" else 0.0
    y = torch.arange(height, dtype=like.dtype, device=like.device) + offset
    x = torch.arange(width, dtype=like.dtype, device=like.device) + offset
    return torch.stack([x.expand(height, width), y[:, None].expand(height, width)], dim=-1)


def camera_points(
    z_depth: Float[Tensor, "*batch height width"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    pixel_centres: PixelCentres = "half",
) -> Float[Tensor, "*batch height width 3"]:
    """Point of every pixel in camera coordinates (OpenCV axes, unit of the depth)."""
    height, width = z_depth.shape[-2:]
    pixels = pixel_grid(height, width, pixel_centres, like=z_depth)
    focal = torch.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], dim=-1)[..., None, None, :]
    centre = intrinsics[..., :2, 2][..., None, None, :]
    z = z_depth[..., None]
    return torch.cat([(pixels - centre) / focal * z, z], dim=-1)


def world_points(
    z_depth: Float[Tensor, "*batch height width"],
    cam_from_world: Float[Tensor, "*batch 3 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
    pixel_centres: PixelCentres = "half",
) -> Float[Tensor, "*batch height width 3"]:
    """Point of every pixel in world coordinates.

    Args:
        z_depth: Depth along the optical axis, in the unit of length of the cameras.
        cam_from_world: [R | t] with OpenCV axes.
        intrinsics: In pixels of the depth map.
        pixel_centres: Where the centre of the first pixel lies (see the module).
    """
    world_from_cam = invert_rigid(cam_from_world)
    points = camera_points(z_depth, intrinsics, pixel_centres)
    rotated = torch.einsum("...ij,...hwj->...hwi", world_from_cam[..., :3], points)
    return rotated + world_from_cam[..., None, None, :, 3]


def project(
    points: Float[Tensor, "*batch n 3"],
    cam_from_world: Float[Tensor, "*batch 3 4"],
    intrinsics: Float[Tensor, "*batch 3 3"],
) -> tuple[Float[Tensor, "*batch n 2"], Float[Tensor, "*batch n"]]:
    """(pixels x, y with centres at +0.5, z-depth) of world points; z <= 0 lies behind the camera."""
    in_camera = points @ cam_from_world[..., :3].transpose(-1, -2) + cam_from_world[..., None, :, 3]
    z = in_camera[..., 2]
    homogeneous = in_camera @ intrinsics.transpose(-1, -2)
    return homogeneous[..., :2] / homogeneous[..., 2:], z
