"""Cameras from rays: exact on exact rays, unmoved by outliers that are not confident."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from manyview.geometry.cameras import invert_rigid
from manyview.models.da3.ray_cameras import cameras_from_rays

SIZE = (42, 70)
GRID = (24, 40)


def _cameras(views: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    rotations = torch.linalg.qr(torch.randn(views, 3, 3, generator=generator, dtype=torch.float64)).Q
    rotations = rotations * rotations.det()[:, None, None]
    centres = torch.randn(views, 3, 1, generator=generator, dtype=torch.float64)
    world_from_cam = torch.cat([rotations, centres], dim=2)
    intrinsics = torch.zeros(views, 3, 3, dtype=torch.float64)
    intrinsics[:, 0, 0] = torch.linspace(40, 90, views)
    intrinsics[:, 1, 1] = torch.linspace(70, 50, views)
    intrinsics[:, :, 2] = torch.tensor((SIZE[1] / 2, SIZE[0] / 2, 1.0))
    return world_from_cam, intrinsics


def _rays(world_from_cam: Tensor, intrinsics: Tensor) -> Tensor:
    rows = (torch.arange(GRID[0], dtype=torch.float64) + 0.5) * SIZE[0] / GRID[0]
    columns = (torch.arange(GRID[1], dtype=torch.float64) + 0.5) * SIZE[1] / GRID[1]
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    pixels = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    inverse = world_from_cam[:, None, None, :, :3] @ intrinsics.inverse()[:, None, None]
    directions = (inverse @ pixels[..., None])[..., 0] * 1.7
    origins = world_from_cam[:, None, None, :, 3].expand_as(directions)
    return torch.cat([directions, origins], dim=-1)[None]


@pytest.mark.parametrize("outliers", [0.0, 0.2])
def test_exact_rays_give_exact_cameras(outliers: float) -> None:
    world_from_cam, intrinsics = _cameras(4)
    rays, confidence = _rays(world_from_cam, intrinsics), torch.full((1, 4, *GRID), 5.0).double()
    wrong = torch.rand(1, 4, *GRID, generator=torch.Generator().manual_seed(2)) < outliers
    rays[wrong] += 3.0
    confidence[wrong] = 1e-9
    found, matrix = cameras_from_rays(rays, confidence, SIZE)
    torch.testing.assert_close(found[0], invert_rigid(world_from_cam), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(matrix[0], intrinsics, rtol=1e-5, atol=1e-5)


def test_the_same_seed_gives_the_same_cameras() -> None:
    rays = _rays(*_cameras(2)).float() + 0.05 * torch.randn(1, 2, *GRID, 6)
    confidence = 1 + torch.rand(1, 2, *GRID)
    one, two = (cameras_from_rays(rays, confidence, SIZE) for _ in range(2))
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1])
    other = cameras_from_rays(rays, confidence, SIZE, generator=torch.Generator().manual_seed(9))
    assert not torch.equal(one[0], other[0])
