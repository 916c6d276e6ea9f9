"""Cameras from the rays that Depth Anything 3's dense head gives (arXiv 2511.10647, section 3.1).

A homography that maps places on the image to directions in the world is a rotation times inverse
intrinsics. Robust fitting: Fischler and Bolles, 1981 (RANSAC); Hartley and Zisserman, section 4.1.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ...distributed.ranks import Ranks
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
    ranks: Ranks | None = None,
) -> tuple[Float[Tensor, "batch frames 3 4"], Float[Tensor, "batch frames 3 3"]]:
    """Cameras whose pixels look along the rays.

    Args:
        rays: Direction (3) and origin (3) of each ray in the world.
        confidence: Of each ray, positive.
        image_size: (rows, columns) of the image in pixels.
        samples: Ranks of the rays of each sample, 0 the most confident; the same for every view (None: drawn
            from `generator`, 100 of 8 from the most confident 30 %).
        generator: On the CPU; also draws the rays of the last fit where there are many (None: seed 0).
        ranks: The frames are this rank's of a scene that several ranks share.

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
    views = [
        _View(own, weight)
        for own, weight in zip(
            rays.flatten(0, 1).flatten(1, 2), confidence.flatten(0, 1).flatten(1), strict=True
        )
    ]
    inliers = [view.inliers(places, samples) for view in views]
    counts = torch.stack([mask.sum() for mask in inliers]).unflatten(0, rays.shape[:2])
    chosen = _chosen(counts, generator, ranks)
    found = [
        view.camera(places, mask, drawn) for view, mask, drawn in zip(views, inliers, chosen, strict=True)
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


@dataclasses.dataclass(frozen=True, eq=False)
class _View:
    """Rays (direction, origin) and confidence of a view, in the network's precision."""

    rays: Float[Tensor, "rays 6"]
    confidence: Float[Tensor, " rays"]

    def _targets(self) -> tuple[Float[Tensor, "rays 2"], Float[Tensor, " rays"]]:
        """Where rays meet the plane z = 1, and their weight; in float64."""
        directions = self.rays[:, :3].double()
        z = directions[:, 2]
        usable = z.abs() > _LEAST_Z
        weight = torch.where(usable, self.confidence.double(), 0.0)
        return directions[:, :2] / torch.where(usable, z, 1.0)[:, None], weight

    def inliers(
        self, places: Float[Tensor, "rays 3"], samples: Int[Tensor, "draws drawn"]
    ) -> Bool[Tensor, " rays"]:
        """Rays that agree with the best of the homographies that are fitted to `samples`."""
        targets, weight = self._targets()
        drawn = weight.argsort(descending=True)[samples]
        trials = _homography(places[drawn], targets[drawn], weight[drawn])

        def agreeing(trial: Tensor) -> Tensor:
            projected = places @ trial.T
            return (projected[:, :2] / projected[:, 2:] - targets).norm(dim=1) < _LARGEST_ERROR

        return agreeing(max(trials, key=lambda trial: float(weight[agreeing(trial)].sum())))

    def camera(
        self,
        places: Float[Tensor, "rays 3"],
        inliers: Bool[Tensor, " rays"],
        chosen: Int[Tensor, " fitted"] | None,
    ) -> tuple[Float[Tensor, "3 4"], Float[Tensor, "3 3"]]:
        """World from camera, and the inverse intrinsics in lower triangular form.

        Fitted to all `inliers`, or to those `chosen` by their rank in confidence.
        """
        targets, weight = self._targets()
        kept = inliers.nonzero()[:, 0]
        if chosen is not None:
            kept = kept[weight[kept].argsort(descending=True)][chosen.to(kept.device)]
        homography = _homography(places[kept], targets[kept], weight[kept])
        if homography.det() < 0:
            homography = -homography
        rotation, lower = _rotation_and_lower(homography)
        centre = (weight[:, None] * self.rays[:, 3:].double()).sum(0) / weight.sum()
        return torch.cat([rotation, centre[:, None]], dim=1), lower / lower[2, 2]


def _chosen(
    inliers: Int[Tensor, "batch frames"], generator: torch.Generator, ranks: Ranks | None
) -> list[Int[Tensor, " fitted"] | None]:
    """Ranks of a limited number of the more confident inliers of each view; None: all of them.

    Drawn view by view in the order of the scene, also for views that other ranks have.
    """
    first, stop = 0, inliers.shape[1]
    if ranks is not None:
        first, stop = ranks.split.first, ranks.split.stop
        inliers = ranks.gather(inliers, 1).wait()
    found: list[Tensor | None] = []
    for scene in inliers.tolist():
        for view, count in enumerate(scene):
            drawn = None
            if count > _MOST_FITTED:
                drawn = torch.randperm(int(_FITTED * count), generator=generator)[:_MOST_FITTED]
            if first <= view < stop:
                found.append(drawn)
    return found


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
