from __future__ import annotations

import torch

from manyview.synthetic import SceneOptions
from manyview.synthetic.draws import Draws
from manyview.synthetic.raycast import camera_rays
from manyview.synthetic.scenes import draw_scenes
from manyview.synthetic.terrain import FAR, height_at, intersect_ground


def test_rays_meet_the_ground_where_a_dense_search_first_does():
    options = SceneOptions.hard(kind="outdoor")
    scenes = draw_scenes(Draws(range(6)), True, 2, 32, 32, options, "cpu")
    rays = camera_rays(scenes, 32, 32, 1)
    found = intersect_ground(scenes.terrain, scenes.eye, rays, torch.full_like(rays[0], torch.inf))
    waves = {name: value.double().numpy() for name, value in vars(scenes.terrain).items()}
    directions = [ray.double() for ray in rays]

    def clearance(t):
        x, y, z = (scenes.eye[..., i, None].double() + t * ray for i, ray in enumerate(directions))
        ground = height_at(waves, x.flatten(1).numpy(), y.flatten(1).numpy())
        return z - torch.from_numpy(ground).view(z.shape)

    far = FAR / torch.stack(directions).norm(dim=0)
    first = torch.full_like(far, torch.inf)
    steps = 1000
    for step in range(1, steps + 1):
        t = far * (step / steps) ** 2
        first = torch.where((clearance(t) <= 0) & torch.isinf(first), t, first)
    met = torch.isfinite(found)
    residual = clearance(torch.where(met, found, 1.0).double())[met] / found[met]
    assert residual.abs().max() < 1e-5
    assert (met != torch.isfinite(first)).float().mean() < 1e-3
    both = met & torch.isfinite(first)
    before = far * (torch.sqrt(first / far) - 1.0 / steps) ** 2
    agrees = (found <= first * 1.0001) & (found >= before * 0.9999)
    assert agrees[both].float().mean() > 0.999


def test_ground_behind_an_object_is_not_met():
    scenes = draw_scenes(Draws([0]), True, 1, 16, 16, SceneOptions(kind="outdoor"), "cpu")
    rays = camera_rays(scenes, 16, 16, 1)
    free = intersect_ground(scenes.terrain, scenes.eye, rays, torch.full_like(rays[0], torch.inf))
    hidden = intersect_ground(
        scenes.terrain, scenes.eye, rays, torch.where(torch.isfinite(free), 0.9 * free, 1.0)
    )
    assert torch.isfinite(free).any()
    assert torch.isinf(hidden).all()
