"""Depth, points, cameras and normals against the scenes' own analytic surfaces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from manyview.synthetic import SceneOptions, render_scenes
from manyview.synthetic.draws import Draws
from manyview.synthetic.raycast import camera_rays, cast
from manyview.synthetic.scenes import draw_scenes
from manyview.synthetic.terrain import FAR, height_at

SEEDS, VIEWS, HEIGHT, WIDTH = list(range(8)), 4, 24, 32
CROWDED = {"boxes": (6, 6), "spheres": (3, 3), "cylinders": (3, 3)}


@pytest.fixture(scope="module", params=["room", "outdoor"])
def cast_scenes(request):
    options = SceneOptions.hard(kind=request.param, **CROWDED)
    scenes = draw_scenes(Draws(SEEDS), request.param == "outdoor", VIEWS, HEIGHT, WIDTH, options, "cpu")
    rays = camera_rays(scenes, HEIGHT, WIDTH, 1)
    hits = cast(scenes, rays)
    batch = render_scenes(SEEDS, VIEWS, HEIGHT, WIDTH, options)
    return scenes, rays, hits, batch


def _shares(scenes, points, slot):
    """Points [b, n, 3] in units of each slot's half size, and the half sizes, along its own axes; float64."""
    index = slot.long()[..., None].expand(-1, -1, 3)
    centre, half = (value.double().gather(1, index) for value in (scenes.centre, scenes.half))
    cos, sin = scenes.turn.double().gather(1, index[..., :2]).unbind(-1)
    x, y, z = (points - centre).unbind(-1)
    return torch.stack([cos * x + sin * y, cos * y - sin * x, z], -1) / half, half


def _ground(scenes, points):
    waves = {name: value.double().numpy() for name, value in vars(scenes.terrain).items()}
    return points[..., 2] - torch.from_numpy(height_at(waves, points[..., 0].numpy(), points[..., 1].numpy()))


def test_every_point_lies_on_the_surface_it_belongs_to(cast_scenes):
    scenes, _, hits, batch = cast_scenes
    count = len(SEEDS)
    points, slot = batch.world_points.double().view(count, -1, 3), hits.slot.view(count, -1)
    depth, valid = batch.z_depth.double().view(count, -1), batch.valid.view(count, -1)
    share, half = _shares(scenes, points, slot)
    boxes, spheres, _ = scenes.counts
    around = share[..., :2].norm(dim=-1)
    residual = (share.abs() - 1.0).mul(half).amax(-1)
    residual = torch.where(slot > boxes, (share.norm(dim=-1) - 1.0) * half[..., 0], residual)
    mantle, lids = (around - 1.0) * half[..., 0], (share[..., 2].abs() - 1.0) * half[..., 2]
    residual = torch.where(slot > boxes + spheres, torch.maximum(mantle, lids), residual)
    if scenes.outdoor:
        residual = torch.where(slot == 0, _ground(scenes, points), residual)
    relative = (residual.abs() / depth.clamp_min(1e-3))[valid]
    assert relative.max() < 1e-4
    kinds = [(slot == 0), (slot > 0) & (slot <= boxes), (slot > boxes) & (slot <= boxes + spheres)]
    for kind in (*kinds, slot > boxes + spheres):
        assert (kind & valid).any()


def test_nothing_stands_before_what_is_seen(cast_scenes):
    scenes, rays, hits, _ = cast_scenes
    count = len(SEEDS)
    depth = torch.where(torch.isfinite(hits.z_depth), hits.z_depth, FAR / 2).double()
    boxes, spheres, _ = scenes.counts
    for fraction in np.linspace(0.01, 0.98, 25):
        points = torch.stack([(depth * fraction) * ray for ray in rays], -1) + scenes.eye.double()[:, :, None]
        points = points.view(count, -1, 3)
        for slot in range(1, 1 + sum(scenes.counts)):
            share, half = _shares(scenes, points, torch.full(points.shape[:2], slot))
            if slot <= boxes:
                inside = share.abs().amax(-1)
            elif slot <= boxes + spheres:
                inside = share.norm(dim=-1)
            else:
                inside = torch.maximum(share[..., :2].norm(dim=-1), share[..., 2].abs())
            used = half[..., 0] > 0
            assert not (used & (inside < 1.0 - 1e-3)).any()
        if scenes.outdoor:
            # A crest lower than 2 cm may be passed over: it is far below a pixel at its distance.
            assert (_ground(scenes, points) > -0.02).float().mean() > 0.9999


def test_depth_and_cameras_give_the_points(cast_scenes):
    _, _, _, batch = cast_scenes
    rows, columns = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    pixels = torch.stack([columns, rows, torch.ones_like(rows)], -1).double()
    rays = torch.einsum("bsij,hwj->bshwi", torch.linalg.inv(batch.intrinsics.double()), pixels)
    camera = rays * batch.z_depth.double()[..., None]
    rotation, translation = batch.cam_from_world.double().split([3, 1], -1)
    world = torch.einsum("bsji,bshwj->bshwi", rotation, camera - translation[:, :, None, None, :, 0])
    error = (world - batch.world_points).norm(dim=-1) / batch.z_depth.clamp_min(1.0)
    assert error[batch.valid].max() < 1e-4
    assert torch.allclose(rotation @ rotation.mT, torch.eye(3).double().expand_as(rotation), atol=1e-5)
    assert (torch.linalg.det(rotation) > 0).all()


def test_normals_are_unit_and_face_the_camera(cast_scenes):
    _, rays, _, batch = cast_scenes
    direction = torch.stack(rays, -1).view(*batch.normals.shape)
    facing = (batch.normals * direction).sum(-1)[batch.valid]
    assert (facing < 1e-3).float().mean() > 0.999
    assert torch.allclose(batch.normals.norm(dim=-1), batch.valid.float(), atol=1e-3)


def test_no_camera_is_inside_an_object_or_outside_its_room(cast_scenes):
    scenes, _, _, _ = cast_scenes
    for slot in range(1, 1 + sum(scenes.counts)):
        index = torch.full((len(SEEDS), VIEWS), slot)
        share, half = _shares(scenes, scenes.eye.double(), index)
        gap = ((share.abs() - 1.0) * half).amax(-1)
        assert (gap[half[..., 0] > 0] > 0.1).all()
    if scenes.outdoor:
        assert (_ground(scenes, scenes.eye.double()) > 1.0).all()
    else:
        share, half = _shares(scenes, scenes.eye.double(), torch.zeros(len(SEEDS), VIEWS))
        assert ((1.0 - share.abs()) * half).min() > 0.3


def test_the_sky_is_not_valid(cast_scenes):
    scenes, _, _, batch = cast_scenes
    assert torch.isfinite(batch.images).all() and torch.isfinite(batch.world_points).all()
    assert (batch.z_depth[~batch.valid] == 0).all() and (batch.world_points[~batch.valid] == 0).all()
    assert (batch.z_depth[batch.valid] > 0).all()
    share = batch.valid.float().mean()
    assert 0.4 < share < 0.95 if scenes.outdoor else share == 1.0


def test_depth_of_supersampled_pixels_is_that_of_their_centres():
    plain = render_scenes([1, 2], 2, 16, 24, SceneOptions.hard())
    fine = render_scenes([1, 2], 2, 16, 24, SceneOptions.hard(samples_per_side=3))
    assert torch.equal(plain.valid, fine.valid)
    assert torch.allclose(plain.z_depth, fine.z_depth, rtol=1e-4)
    assert not torch.equal(plain.images, fine.images)
    assert (plain.images - fine.images).abs().mean() < 0.1


@pytest.mark.parametrize(("height", "width"), [(20, 30), (30, 20)])
def test_the_field_of_view_is_that_of_the_longer_side(height, width):
    batch = render_scenes(range(4), 2, height, width, SceneOptions(fov_degrees=(60.0, 60.0)))
    focal = batch.intrinsics[..., 0, 0]
    assert torch.allclose(2 * torch.atan(15.0 / focal).rad2deg(), torch.tensor(60.0))
    assert torch.equal(focal, batch.intrinsics[..., 1, 1])
    assert (batch.intrinsics[..., :2, 2] == torch.tensor([width / 2, height / 2])).all()
