"""Cameras from the rays that Depth Anything 3's dense head gives (arXiv 2511.10647, section 3.1).

A homography that maps places on the image to directions in the world is a rotation times inverse
intrinsics. Robust fitting: Fischler and Bolles, 1981 (RANSAC); Hartley and Zisserman, section 4.1.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ...geometry.cameras import invert_rigid

_DRAWS, _DRAWN = 100, 8
_CANDIDATES = 0.3  # the share of most confident rays that samples are drawn from
_LARGEST_ERROR = 0.2
_LEAST_Z = 1e-4
_MOST_FITTED, _FITTED = 8000, 0.95


def cameras_from_rays(
    rays: Float[Tensor, "batch frames rows columns 6"],
    confidence: Float[Tensor, "batch frames rows columns"],
    image_size: tuple[int, int],
    samples: Int[Tensor, "draws drawn"] | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Float[Tensor, "batch frames 3 4"], Float[Tensor, "batch frames 3 3"]]:
    """Cameras whose pixels look along the rays.

    Args:
        rays: Direction (3) and origin (3) of each ray in the world.
        confidence: Of each ray, positive.
        image_size: (rows, columns) of the image in pixels.
        samples: Ranks of the rays of each sample, 0 the most confident; the same for every view (None: drawn
            from `generator`, 100 of 8 from the most confident 30 %).
        generator: On the CPU; also draws the rays of the last fit where there are many (None: seed 0).

    Returns:
        Camera from world [R | t], and intrinsics in pixels. The principal point is exact where it is the
        centre only: the published decomposition is of the wrong triangular form.
    """
    generator = generator or torch.Generator().manual_seed(0)
    count = rays.shape[2] * rays.shape[3]
    if samples is None:
        candidates = max(_DRAWN, int(_CANDIDATES * count))
        draws = [torch.randperm(candidates, generator=generator)[:_DRAWN] for _ in range(_DRAWS)]
        samples = torch.stack(draws)
    samples = samples.to(rays.device)
    places = _places(rays.shape[2], rays.shape[3], rays.device)
    found = [
        _camera(places, own[:, :3], own[:, 3:], weight, samples, generator)
        for own, weight in zip(
            rays.double().flatten(0, 1).flatten(1, 2),
            confidence.double().flatten(0, 1).flatten(1),
            strict=True,
        )
    ]
    world_from_cam, lower = (torch.stack(parts) for parts in zip(*found, strict=True))
    height, width = image_size
    half = lower.new_tensor((width / 2, height / 2))
    intrinsics = torch.zeros_like(lower)
    intrinsics[:, (0, 1), (0, 1)] = half / lower.diagonal(dim1=1, dim2=2)[:, :2]
    intrinsics[:, :2, 2] = half * (1 + lower[:, 2, :2])
    intrinsics[:, 2, 2] = 1
    cameras = invert_rigid(world_from_cam)
    batch = rays.shape[:2]
    return cameras.to(rays.dtype).unflatten(0, batch), intrinsics.to(rays.dtype).unflatten(0, batch)


def _places(rows: int, columns: int, device: torch.device) -> Float[Tensor, "rays 3"]:
    """(x, y, 1) of the centre of each cell on a plane from -1 to 1."""
    y, x = (
        (2 * torch.arange(side, dtype=torch.float64, device=device) + 1) / side - 1
        for side in (rows, columns)
    )
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).flatten(0, 1)
    return torch.cat([grid, torch.ones_like(grid[:, :1])], dim=1)


def _camera(
    places: Float[Tensor, "rays 3"],
    directions: Float[Tensor, "rays 3"],
    origins: Float[Tensor, "rays 3"],
    weight: Float[Tensor, " rays"],
    samples: Int[Tensor, "draws drawn"],
    generator: torch.Generator,
) -> tuple[Float[Tensor, "3 4"], Float[Tensor, "3 3"]]:
    """World from camera, and the inverse intrinsics in lower triangular form."""
    z = directions[:, 2]
    usable = z.abs() > _LEAST_Z
    weight = torch.where(usable, weight, 0.0)
    targets = directions[:, :2] / torch.where(usable, z, 1.0)[:, None]
    drawn = weight.argsort(descending=True)[samples]
    trials = _homography(places[drawn], targets[drawn], weight[drawn])

    def inliers(trial: Tensor) -> Tensor:
        projected = places @ trial.T
        return (projected[:, :2] / projected[:, 2:] - targets).norm(dim=1) < _LARGEST_ERROR

    best = max(trials, key=lambda trial: float(weight[inliers(trial)].sum()))
    kept = _fitted(inliers(best).nonzero()[:, 0], weight, generator)
    homography = _homography(places[kept], targets[kept], weight[kept])
    if homography.det() < 0:
        homography = -homography
    rotation, lower = _rotation_and_lower(homography)
    centre = (weight[:, None] * origins).sum(0) / weight.sum()
    return torch.cat([rotation, centre[:, None]], dim=1), lower / lower[2, 2]


def _fitted(
    inliers: Int[Tensor, " inliers"], weight: Float[Tensor, " rays"], generator: torch.Generator
) -> Int[Tensor, " fitted"]:
    """All inliers, or a limited number of the more confident ones."""
    if len(inliers) <= _MOST_FITTED:
        return inliers
    ranked = inliers[weight[inliers].argsort(descending=True)][: int(_FITTED * len(inliers))]
    chosen = torch.randperm(len(ranked), generator=generator)[:_MOST_FITTED]
    return ranked[chosen.to(ranked.device)]


def _homography(
    sources: Float[Tensor, "*batch points 3"],
    targets: Float[Tensor, "*batch points 2"],
    weight: Float[Tensor, "*batch points"],
) -> Float[Tensor, "*batch 3 3"]:
    """The homography, its last entry 1, of least algebraic error; rows are weighted by the root."""
    nothing = torch.zeros_like(sources)
    across = torch.cat([sources, nothing, -targets[..., :1] * sources], dim=-1)
    down = torch.cat([nothing, sources, -targets[..., 1:] * sources], dim=-1)
    rows = torch.cat([across, down], dim=-2) * torch.cat([weight, weight], dim=-1).sqrt()[..., None]
    last = torch.linalg.svd(rows, full_matrices=False).Vh[..., -1, :]
    return (last / last[..., -1:]).unflatten(-1, (3, 3))


def _rotation_and_lower(
    matrix: Float[Tensor, "3 3"],
) -> tuple[Float[Tensor, "3 3"], Float[Tensor, "3 3"]]:
    """An orthogonal and a lower triangular matrix with a positive diagonal, whose product it is."""
    orthogonal, upper = torch.linalg.qr(matrix.flip(1))
    orthogonal, lower = orthogonal.flip(1), upper.flip(0, 1)
    signs = lower.diagonal().sign()
    return orthogonal * signs, lower * signs[:, None]
