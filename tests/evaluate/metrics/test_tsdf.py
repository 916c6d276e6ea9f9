"""Surfaces that are known: a sphere seen from all around, a plane; and depth that says nothing."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from manyview.evaluate.metrics.points import cloud_errors
from manyview.evaluate.metrics.tsdf import TsdfOptions, fuse
from manyview.evaluate.protocols.measures import FusedSurface
from manyview.evaluate.protocols.scene_pair import ScenePair
from tests.evaluate.protocols.scene_pairs import similar

K = torch.tensor([[90.0, 0, 48], [0, 90, 36], [0, 0, 1]], dtype=torch.float64)
SIZE = 72, 96
OPTIONS = TsdfOptions(voxel=0.02, truncation=0.08)


def look_at(centre: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """cam_from_world of a camera at a place, towards another."""
    ahead = torch.nn.functional.normalize(target - centre, dim=0)
    helper = torch.tensor([0.1, 1.0, 0.2], dtype=torch.float64)
    right = torch.nn.functional.normalize(torch.linalg.cross(helper, ahead), dim=0)
    rotation = torch.stack([right, torch.linalg.cross(ahead, right), ahead])
    return torch.cat([rotation, -(rotation @ centre)[:, None]], 1)


def rays(camera: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(centre, world directions of z-depth one) of all pixels."""
    y, x = torch.meshgrid(torch.arange(SIZE[0]) + 0.5, torch.arange(SIZE[1]) + 0.5, indexing="ij")
    own = torch.stack([(x - K[0, 2]) / K[0, 0], (y - K[1, 2]) / K[1, 1], torch.ones_like(x)], -1)
    return -camera[:, :3].T @ camera[:, 3], own.double() @ camera[:, :3]


def sphere(radius: float = 0.5, views: int = 14, at: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """(depth, cameras) of a sphere; NaN beside it."""
    middle = torch.tensor([at, 0.0, 0.0], dtype=torch.float64)
    steps = torch.arange(views) + 0.5
    z = 1 - 2 * steps / views
    turn = steps * np.pi * (1 + 5**0.5)
    flat = (1 - z**2).sqrt()
    places = 1.6 * torch.stack([flat * turn.cos(), flat * turn.sin(), z], -1).double() + middle
    cameras = torch.stack([look_at(place, middle) for place in places])
    depth = []
    for camera in cameras:
        centre, ray = rays(camera)
        half, offset = (ray * (centre - middle)).sum(-1), (centre - middle).square().sum() - radius**2
        square = ray.square().sum(-1)
        inner = half**2 - square * offset
        depth.append(torch.where(inner > 0, (-half - inner.clamp(min=0).sqrt()) / square, torch.nan))
    return torch.stack(depth), cameras


def on_sphere(radius: float = 0.5, count: int = 20_000) -> np.ndarray:
    points = np.random.default_rng(0).normal(size=(count, 3))
    return radius * points / np.linalg.norm(points, axis=1, keepdims=True)


def f_score(found: torch.Tensor, truth: np.ndarray, threshold: float) -> float:
    errors = cloud_errors(found.numpy(), truth, thresholds=(threshold,), workers=1)
    return 0.0 if errors is None else errors.f_score[threshold]


def test_a_sphere_comes_back_and_a_shifted_one_does_not() -> None:
    depth, cameras = sphere()
    surface = fuse(depth, cameras, K.expand(len(depth), 3, 3), OPTIONS)
    radii = surface.points.norm(dim=-1)
    assert float((radii - 0.5).abs().mean()) < 0.15 * OPTIONS.voxel
    assert f_score(surface.points, on_sphere(), 2 * OPTIONS.voxel) > 99.5
    moved = cameras.clone()
    moved[..., 3] -= cameras[..., :3] @ torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64)
    far = fuse(depth, moved, K.expand(len(depth), 3, 3), OPTIONS)
    assert f_score(far.points, on_sphere(), 2 * OPTIONS.voxel) == 0.0


def test_a_plane_and_one_ten_voxels_behind_it() -> None:
    camera = look_at(torch.zeros(3).double(), torch.tensor([0.0, 0, 1]).double())
    _, ray = rays(camera)
    normal = torch.tensor([0.2, -0.1, 1.0], dtype=torch.float64)
    truth = (ray / (ray @ normal)[..., None]).reshape(-1, 3)
    step = 10 * OPTIONS.voxel * normal.norm()
    scores = []
    for offset in (0.0, step):
        depth = ((1 + offset) / (ray @ normal))[None]
        points = fuse(depth, camera[None], K[None], OPTIONS).points
        if not offset:
            assert float((points @ normal - 1).abs().mean()) < 0.2 * OPTIONS.voxel
        scores.append(f_score(points, truth.numpy(), 2 * OPTIONS.voxel))
    assert scores[0] > 99 and scores[1] == 0.0


def test_noise_is_averaged_over_views() -> None:
    depth, cameras = sphere()
    generator = torch.Generator().manual_seed(0)
    noisy = depth + 0.02 * torch.randn(depth.shape, generator=generator, dtype=depth.dtype)
    points = fuse(noisy, cameras, K.expand(len(depth), 3, 3), OPTIONS).points
    raw = 0.02 * (2 / np.pi) ** 0.5
    assert float((points.norm(dim=-1) - 0.5).abs().mean()) < 0.7 * raw


def test_where_the_world_lies_does_not_matter() -> None:
    depth, cameras = sphere()
    k = K.expand(len(depth), 3, 3)
    near = fuse(depth, cameras, k, OPTIONS).points
    shift = torch.tensor([4000.0, -3000.0, 500.0], dtype=torch.float64)
    moved = cameras.clone()
    moved[..., 3] -= cameras[..., :3] @ shift
    far = fuse(depth, moved, k, OPTIONS).points - shift
    assert float(((far.norm(dim=-1) - 0.5).abs().mean()) - (near.norm(dim=-1) - 0.5).abs().mean()) < 1e-3


def test_what_says_nothing_gives_no_point() -> None:
    depth, cameras = sphere(views=3)
    k = K.expand(3, 3, 3)
    for empty in (depth * torch.nan, -depth, depth / 0.0):
        assert fuse(empty, cameras, k, OPTIONS).points.shape == (0, 3)
    assert fuse(depth, cameras * torch.nan, k, OPTIONS).points.shape == (0, 3)
    assert len(fuse(depth, cameras, k, TsdfOptions(0.02, 0.08, farthest=0.5)).points) == 0
    lost = cameras.clone()
    lost[1] = torch.nan
    one = fuse(depth[[0, 2]], cameras[[0, 2]], k[:2], OPTIONS).points
    torch.testing.assert_close(fuse(depth, lost, k, OPTIONS).points, one)
    with pytest.raises(ValueError, match="voxel"):
        TsdfOptions(0.1, 0.05)


def test_what_would_not_fit_is_made_coarser() -> None:
    depth, cameras = sphere()
    options = TsdfOptions(0.02, 0.08, most_blocks=300)
    surface = fuse(depth, cameras, K.expand(len(depth), 3, 3), options)
    assert surface.voxel in (0.04, 0.08) and float((surface.points.norm(dim=-1) - 0.5).abs().mean()) < 0.01


def sphere_pair() -> ScenePair:
    """The sphere, estimated in another world and scale; the truth is a cloud of it."""
    depth, cameras = (values.numpy() for values in sphere())
    nothing = np.full((*depth.shape, 3), np.nan, dtype=np.float32)
    return similar(
        ScenePair(
            found_cameras=cameras,
            true_cameras=cameras,
            found_depth=depth.astype(np.float32),
            confidence=np.ones(depth.shape, dtype=np.float32),
            found_points=nothing,
            seen=np.ones(depth.shape, dtype=bool),
            cloud=on_sphere(),
            found_intrinsics=np.repeat(K.numpy()[None], len(depth), 0),
        )
    )


def test_the_measure_undoes_a_similarity_and_judges_in_metres() -> None:
    pair, measure = sphere_pair(), FusedSurface(0.02, 0.08, (0.04, 0.1))
    found = measure.figures(pair, 1)
    assert found["surface_f_0.04"] > 99.5 and found["surface_from_cloud"] == 1.0
    assert found["surface_overall"] < 0.01 and found["surface_voxel"] == 0.02
    moved = dataclasses.replace(pair, cloud=pair.cloud + np.array([0, 0, 1.3]))
    assert measure.figures(moved, 1)["surface_f_0.04"] == 0.0
    # A part of the sphere is all of it that was found: precise, not complete.
    part = dataclasses.replace(
        pair, found_depth=np.where(np.arange(14)[:, None, None] < 5, pair.found_depth, np.nan)
    )
    some = measure.figures(part, 1)
    assert some["surface_precision_0.04"] > 99 and 50 < some["surface_recall_0.04"] < 85
    scale = np.array([1, 1, 1, 1000.0])
    millimetres = dataclasses.replace(
        pair, true_cameras=pair.true_cameras * scale, cloud=pair.cloud * 1000, per_metre=1000.0
    )
    assert measure.figures(millimetres, 1)["surface_f_0.04"] == pytest.approx(
        found["surface_f_0.04"], abs=0.1
    )


def test_true_depth_masks_the_estimate_and_a_mesh_is_compared_by_its_area() -> None:
    pair, measure = sphere_pair(), FusedSurface(0.06, 0.12, (0.12,), most=20_000)
    wall = np.where(np.isfinite(pair.found_depth), pair.found_depth, np.float32(np.nanmax(pair.found_depth)))
    behind = dataclasses.replace(pair, found_depth=wall)  # something else beside the sphere
    true = np.where(np.isfinite(pair.found_depth), np.float32(1), np.float32(np.nan))
    masked = measure.figures(dataclasses.replace(behind, true_depth=true), 1)
    assert masked["surface_f_0.12"] == measure.figures(pair, 1)["surface_f_0.12"]
    near = dataclasses.replace(measure, margin=0.1).figures(behind, 1)
    assert near["surface_precision_0.12"] > measure.figures(behind, 1)["surface_precision_0.12"]
    unknown = measure.figures(dataclasses.replace(behind, true_depth=np.full_like(true, np.nan)), 1)
    assert unknown["surface_precision_0.12"] < 90  # views without a depth map keep all
    square = np.array([[-9.0, -9, 0], [9, -9, 0], [9, 9, 0], [-9, 9, 0]])
    mesh = dataclasses.replace(pair, cloud=square, triangles=np.array([[0, 1, 2], [0, 2, 3]]))
    by_area = measure.figures(mesh, 1)
    assert by_area["surface_from_mesh"] == 1.0 and by_area["surface_completeness"] > 3


def test_the_measure_says_zero_of_an_estimate_of_nothing_and_none_without_truth() -> None:
    pair, measure = sphere_pair(), FusedSurface(0.02, 0.08, (0.04,))
    empty = measure.figures(dataclasses.replace(pair, found_depth=pair.found_depth * np.nan), 1)
    assert empty["surface_f_0.04"] == 0.0 and empty["surface_overall"] is None
    assert measure.figures(dataclasses.replace(pair, cloud=None), 1)["surface_f_0.04"] is None
    cameras = pair.found_cameras.copy()
    cameras[2:] = np.nan
    two = measure.figures(dataclasses.replace(pair, found_cameras=cameras), 1)
    assert two["surface_f_0.04"] is None  # two cameras fix no similarity
    infinite = np.where(pair.found_depth > np.nanmedian(pair.found_depth), np.inf, pair.found_depth)
    assert measure.figures(dataclasses.replace(pair, found_depth=infinite), 1)["surface_f_0.04"] > 50
