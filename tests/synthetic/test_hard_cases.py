"""Hard cases: driving forward, turning in place, one pattern everywhere; difficulty between the presets."""

from __future__ import annotations

import pytest
import torch

from manyview.errors import UsageError
from manyview.geometry.cameras import invert_rigid
from manyview.synthetic import SceneOptions, render_scenes


@pytest.mark.parametrize("kind", ["room", "outdoor"])
def test_a_drive_goes_along_the_cameras_axis(kind):
    batch = render_scenes(range(16), 6, 4, 4, SceneOptions(kind=kind, motion="forward", path="walk"))
    world = invert_rigid(batch.cam_from_world)
    step = torch.nn.functional.normalize(world[:, 1:, :, 3] - world[:, :-1, :, 3], dim=-1)
    cosine = (step * world[:, :-1, :, 2]).sum(-1)
    assert cosine.median() > 0.98 and (cosine > 0.9).double().mean() > 0.9
    relative = torch.einsum("bij,bij->b", world[:, 0, :, :3], world[:, -1, :, :3])
    assert ((relative - 1) / 2).clamp(-1, 1).acos().rad2deg().median() < 8


@pytest.mark.parametrize("kind", ["room", "outdoor"])
@pytest.mark.parametrize("path", ["walk", "unordered"])
def test_a_rotation_has_one_centre_and_overlapping_views(kind, path):
    batch = render_scenes(range(16), 6, 4, 4, SceneOptions(kind=kind, motion="rotation", path=path))
    world = invert_rigid(batch.cam_from_world.double())
    assert (world[..., 3] - world[:, :1, :, 3]).abs().max() < 1e-5
    rotation = batch.cam_from_world[..., :3]
    trace = torch.einsum("bij,bvij->bv", rotation[:, 0], rotation)
    angle = ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg()
    assert 15 < angle.amax(1).median() < 110


def test_special_motions_are_not_drawn_by_mixed_and_work_for_few_views():
    for motion in ("forward", "rotation"):
        one = render_scenes([3], 1, 4, 4, SceneOptions(motion=motion))
        assert one.cam_from_world.isfinite().all()
    mixed = render_scenes(range(24), 3, 4, 4, SceneOptions(motion="mixed"))
    centres = invert_rigid(mixed.cam_from_world)[..., 3]
    assert (centres - centres[:, :1]).norm(dim=-1).amax(1).min() > 0.05


@pytest.mark.parametrize("kind", ["room", "outdoor"])
def test_repetition_changes_looks_alone_and_makes_surfaces_alike(kind):
    plain = SceneOptions(kind=kind, haze_free_share=1.0, light_strength=0.0)
    repeated = SceneOptions(kind=kind, haze_free_share=1.0, light_strength=0.0, repeated=1.0)
    first, second = (render_scenes(range(8), 3, 24, 24, options) for options in (plain, repeated))
    assert torch.equal(first.z_depth, second.z_depth)
    assert not torch.equal(first.images, second.images)

    def between_views(batch):  # mean colour of a view, against other views: all alike where all repeats
        colour = (batch.images * batch.valid[:, :, None]).sum((-1, -2)) / batch.valid.sum((-1, -2))[
            ..., None
        ].clamp(min=1)
        return colour.std(1).mean()

    assert between_views(second) < 0.6 * between_views(first)


def test_a_share_of_scenes_repeats():
    options = SceneOptions(repeated=0.5)
    plain, some = render_scenes(range(12), 1, 8, 8), render_scenes(range(12), 1, 8, 8, options)
    same = (plain.images == some.images).flatten(1).all(1)
    assert 2 <= int(same.sum()) <= 10


def test_difficulty_meets_the_presets_and_rises_between():
    assert SceneOptions.at(0) == SceneOptions.easy()
    assert SceneOptions.at(0.5) == SceneOptions.medium()
    assert SceneOptions.at(1) == SceneOptions.hard()
    steps = [SceneOptions.at(i / 20) for i in range(21)]
    hardness = [step.texture_hardness for step in steps]
    assert hardness == sorted(hardness) and len(set(hardness)) == 21
    assert all(isinstance(n, int) for step in steps for n in step.boxes)
    assert SceneOptions.at(0.3, texture_bank_seed=9).texture_bank_seed == 9


@pytest.mark.parametrize("difficulty", [-0.1, 1.1, float("nan"), "hard", True])
def test_difficulty_outside_is_refused(difficulty):
    with pytest.raises(UsageError, match="difficulty"):
        SceneOptions.at(difficulty)
