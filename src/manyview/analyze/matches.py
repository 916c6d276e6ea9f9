"""Correspondences of patches between views, exact or from predictions."""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ..geometry.unproject import world_points
from ..models.network import Predictions
from ..synthetic import SceneBatch, correspondence

_LOOSE = 0.05  # predicted depth is not accurate to one percent


@dataclasses.dataclass(frozen=True)
class Matches:
    """For each patch p of frame s, its place (column, row; patches, centres at whole numbers) in frame t."""

    place: Float[Tensor, "s t patches 2"]
    visible: Bool[Tensor, "s t patches"]

    def to(self, device: torch.device) -> Matches:
        """The same on another device."""
        return Matches(self.place.to(device), self.visible.to(device))


def exact_matches(batch: SceneBatch, patch_size: int, tolerance: float = 0.01) -> Matches:
    """Matches of one rendered scene (a batch of one)."""
    found = correspondence(batch, patch_size, tolerance)
    first = found.source[0]
    return Matches((found.pixels[0] - first) / patch_size, found.visible[0])


def predicted_matches(images: Float[Tensor, "s 3 h w"], found: Predictions, patch_size: int) -> Matches:
    """Matches from the predicted depth and cameras."""
    assert found.z_depth is not None
    z_depth, cameras, intrinsics = (
        x.float() for x in (found.z_depth, found.cam_from_world, found.intrinsics)
    )
    world = world_points(z_depth, cameras, intrinsics)
    valid = z_depth.isfinite() & (z_depth > 0)
    batch = SceneBatch(images[None], z_depth, world, cameras, intrinsics, valid)
    return exact_matches(batch, patch_size, _LOOSE)
