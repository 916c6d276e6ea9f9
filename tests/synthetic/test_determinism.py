from __future__ import annotations

import pytest
import torch

from manyview.synthetic import SceneOptions, demo_scene, render, render_scenes
from manyview.synthetic.batch import SceneBatch
from manyview.synthetic.draws import Draws


def _same(a: SceneBatch, b: SceneBatch) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in vars(a))


@pytest.mark.parametrize("preset", [SceneOptions.easy, SceneOptions.hard])
def test_a_scene_does_not_depend_on_its_batch(preset):
    options = preset(kind="mixed", path="mixed", motion="mixed")
    seeds = [3, 7, 1, 12, 5]
    together = render_scenes(seeds, 3, 24, 20, options)
    for place, seed in enumerate(seeds):
        assert _same(together[place : place + 1], render_scenes([seed], 3, 24, 20, options))


def test_an_int_is_one_seed():
    assert _same(render_scenes(5, 2, 8, 8), render_scenes([5], 2, 8, 8))


def test_working_in_pieces_changes_nothing(monkeypatch):
    options = SceneOptions.hard()
    whole = render_scenes(range(3), 4, 16, 16, options)
    monkeypatch.setitem(render._RAYS_AT_ONCE, "cpu", 300)
    assert _same(whole, render_scenes(range(3), 4, 16, 16, options))


def test_scenes_and_texture_banks_differ():
    options = SceneOptions.hard(kind="room")
    scenes = render_scenes(range(6), 2, 16, 16, options)
    assert torch.isclose(scenes.z_depth[:3], scenes.z_depth[3:], rtol=0.01).float().mean() < 0.1
    other = render_scenes(range(6), 2, 16, 16, SceneOptions.hard(kind="room", texture_bank_seed=1))
    assert torch.equal(other.z_depth, scenes.z_depth)
    assert ((other.images - scenes.images).abs().mean((1, 2, 3, 4)) > 0.01).all()


def test_draws_are_pinned_and_uniform():
    draws = Draws([0, 1])
    # Scenes of a seed must stay what they are from release to release: a held-out set depends on it.
    assert draws.uniform("box", 2).round(12).tolist() == [
        [0.925920869008, 0.121046074054],
        [0.763107990324, 0.588071426469],
    ]
    many = draws.uniform("many", 100_000)
    assert abs(many.mean() - 0.5) < 0.01 and abs(many.std() - 12**-0.5) < 0.01
    normal = draws.normal("many", 100_000)
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1.0) < 0.02
    whole = draws.integers("die", 10_000, low=1, high=6)
    assert set(whole.flatten().tolist()) == {1, 2, 3, 4, 5, 6}


def test_the_demo_scene_is_one_room_of_the_asked_size():
    batch = demo_scene(views=3, height=24, width=32)
    assert batch.images.shape == (1, 3, 3, 24, 32)
    assert batch.valid.all()
    assert batch.images.std() > 0.1
    assert _same(batch, demo_scene(views=3, height=24, width=32))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
def test_a_gpu_draws_the_same_scenes():
    options = SceneOptions.hard()
    cpu, gpu = (
        render_scenes(range(4), 3, 32, 32, options),
        render_scenes(range(4), 3, 32, 32, options, "cuda"),
    )
    gpu = gpu.to("cpu")
    assert torch.equal(cpu.cam_from_world, gpu.cam_from_world)
    close = torch.isclose(cpu.z_depth, gpu.z_depth, rtol=1e-4)
    assert close.float().mean() > 0.999
    assert ((cpu.images - gpu.images).abs() < 0.01).float().mean() > 0.99
