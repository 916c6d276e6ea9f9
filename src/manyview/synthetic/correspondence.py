"""Which pixel of every other view sees the same point: exact, from depth and cameras."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..errors import UsageError
from .batch import SceneBatch


@dataclass(frozen=True)
class Correspondence:
    """For each patch p of frame s, where its centre's point lies in frame t (t = s included).

    `source` is the pixel taken as the patch's centre (the one right of and below it where the patch
    size is even), `pixels` its place (x, y) in every frame, px with centres at +0.5, and `visible`
    whether it is seen there: inside the image, before the camera, and not hidden. Patches are counted
    along the rows. Pixels are meaningless where not visible.
    """

    source: Float[Tensor, "patches 2"]
    pixels: Float[Tensor, "b s t patches 2"]
    visible: Bool[Tensor, "b s t patches"]


@torch.no_grad()
def correspondence(batch: SceneBatch, patch_size: int, tolerance: float = 0.01) -> Correspondence:
    """Correspondences of all patch centres between all frames.

    A point is hidden where the depth map of the other frame, interpolated in inverse depth (exact on
    planes), differs from the point's depth by more than the share `tolerance`; this also drops points
    within a pixel of a depth edge. Raises UsageError if the image is not a whole number of patches.
    """
    height, width = batch.z_depth.shape[-2:]
    if patch_size < 1 or height % patch_size or width % patch_size:
        raise UsageError(
            f"Images of {height}x{width} are no whole number of patches of {patch_size}; "
            "choose a size that divides both."
        )
    middle = patch_size // 2
    centres = (slice(None), slice(None), slice(middle, None, patch_size), slice(middle, None, patch_size))
    points, valid = batch.world_points[centres].flatten(2, 3), batch.valid[centres].flatten(2)
    x, y, z = _project(points, batch)

    inside = (z > 1e-3) & (x >= 0) & (x <= width) & (y >= 0) & (y <= height)
    depth = _depth_at(batch, x, y)
    visible = inside & valid[:, :, None] & ((z * depth - 1.0).abs() < tolerance)
    frames = torch.arange(batch.z_depth.shape[1], device=x.device)
    visible[:, frames, frames] = valid
    rows = torch.arange(middle, height, patch_size, device=x.device) + 0.5
    columns = torch.arange(middle, width, patch_size, device=x.device) + 0.5
    source = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), -1).flatten(0, 1)
    return Correspondence(source, torch.stack([x, y], -1), visible)


def _project(points: Tensor, batch: SceneBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels x, y and depth z, each [b, s, t, p], of points [b, s, p, 3] in every frame t."""
    camera = batch.cam_from_world[:, None, :, None]  # [b, 1, t, 1, 3, 4]
    px, py, pz = points[:, :, None].unbind(-1)
    x, y, z = (
        camera[..., i, 0] * px + camera[..., i, 1] * py + camera[..., i, 2] * pz + camera[..., i, 3]
        for i in range(3)
    )
    inverse = z.clamp_min(1e-6).reciprocal()
    k = batch.intrinsics[:, None, :, None]
    return k[..., 0, 0] * x * inverse + k[..., 0, 2], k[..., 1, 1] * y * inverse + k[..., 1, 2], z


def _depth_at(batch: SceneBatch, x: Tensor, y: Tensor) -> Tensor:
    """Inverse depth [b, s, t, p] of frame t at pixels x, y, bilinear; 0 where the sky is near by."""
    b, frames, height, width = batch.z_depth.shape
    inverse = torch.where(batch.valid, batch.z_depth, torch.inf).reciprocal().flatten()
    x = (x - 0.5).clamp(0, width - 1)
    y = (y - 0.5).clamp(0, height - 1)
    left, top = x.floor().clamp(max=max(width - 2, 0)), y.floor().clamp(max=max(height - 2, 0))
    across, down = x - left, y - top
    image = torch.arange(b * frames, device=x.device).view(b, 1, frames, 1) * (height * width)
    first = image + top.long() * width + left.long()
    right, below = min(1, width - 1), width * min(1, height - 1)
    upper = torch.lerp(inverse[first], inverse[first + right], across)
    lower = torch.lerp(inverse[first + below], inverse[first + below + right], across)
    return torch.lerp(upper, lower, down)
