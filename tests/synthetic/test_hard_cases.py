"""Hard cases: driving forward, turning in place, one pattern everywhere; difficulty between the presets."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch

from manyview.errors import UsageError
from manyview.geometry.cameras import invert_rigid
from manyview.synthetic import SceneOptions, correspondence, render_scenes
from manyview.synthetic.options import SPECIAL_MOTIONS


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


def _pairs(batch):
    """(cosine of each pair's baseline with the first gaze, rotation in degrees, baseline / median depth)."""
    world = invert_rigid(batch.cam_from_world.double())
    first, second = torch.triu_indices(world.shape[1], world.shape[1], 1)
    step = world[:, second, :, 3] - world[:, first, :, 3]
    cosine = (torch.nn.functional.normalize(step, dim=-1) * world[:, first, :, 2]).sum(-1)
    trace = torch.einsum("bpij,bpij->bp", world[:, first, :, :3], world[:, second, :, :3])
    depth = batch.z_depth.masked_fill(~batch.valid, torch.nan).flatten(1).nanmedian(1).values
    return cosine, ((trace - 1) / 2).clamp(-1, 1).acos().rad2deg(), step.norm(dim=-1) / depth[:, None]


def _seen_by_the_next(batch):
    """Share of the places that each view sees which the next one sees, too."""
    visible = correspondence(batch, 8).visible.double().mean(-1)
    return visible.diagonal(1, 1, 2)


@pytest.mark.parametrize("kind", ["room", "outdoor"])
def test_a_sideways_walk_goes_across_the_gaze(kind):
    batch = render_scenes(
        range(16), 6, 32, 32, SceneOptions.medium(kind=kind, motion="sideways", path="walk")
    )
    cosine, degrees, parallax = _pairs(batch)
    assert cosine.abs().median() < 0.25 and degrees.median() < 10 and parallax.median() > 0.15
    assert _seen_by_the_next(batch).median() > 0.3


@pytest.mark.parametrize("kind", ["room", "outdoor"])
def test_a_scan_turns_more_than_it_walks(kind):
    batch = render_scenes(range(16), 6, 32, 32, SceneOptions.medium(kind=kind, motion="scan", path="walk"))
    _, degrees, parallax = _pairs(batch)
    assert degrees.median() > 2 * parallax.atan().rad2deg().median()
    assert 30 < degrees.amax(1).median() < 120
    assert _seen_by_the_next(batch).median() > 0.3
    assert kind == "outdoor" or batch.valid.all()  # every ray from within the walls ends at one


@pytest.mark.parametrize(("kind", "arrangement"), [("room", "table"), ("outdoor", "statue")])
def test_around_goes_round_and_sees_on(kind, arrangement):
    options = SceneOptions.medium(kind=kind, motion="around", path="orbit", arrangement=arrangement)
    few, many = (render_scenes(range(16), views, 32, 32, options) for views in (4, 16))
    turns = [world[..., :2, 2] for world in (invert_rigid(b.cam_from_world) for b in (few, many))]
    angles = [torch.atan2(level[..., 1], level[..., 0]).diff(dim=1).rad2deg() for level in turns]
    steps = [(angle + 180).remainder(360).sub(180) for angle in angles]
    same_way = [(step.sign() == step.sum(1, keepdim=True).sign()).double().mean() for step in steps]
    assert min(same_way) > 0.85
    assert steps[0].sum(1).abs().median() < 110 < 230 < steps[1].sum(1).abs().median()
    assert steps[1].sum(1).abs().max() < 375  # about one turn, not two
    for batch in (few, many):
        assert _seen_by_the_next(batch).median() > 0.2
        assert batch.z_depth[batch.valid].min() > 0.05


def test_a_statue_stands_in_the_middle_before_the_cameras():
    bare: dict[str, Any] = {"boxes": (0, 0), "spheres": (0, 0), "cylinders": (0, 0), "terrain_relief": 0.0}
    empty = SceneOptions(kind="outdoor", path="orbit", **bare)
    options = dataclasses.replace(empty, arrangement="statue")
    plain, batch = (render_scenes(range(16), 4, 24, 24, which) for which in (empty, options))
    above, plain_above = (each.valid & (each.world_points[..., 2] > 0.1) for each in (batch, plain))
    assert not plain_above.any()
    assert (above.double().mean((-1, -2)) > 0.01).double().mean() > 0.9  # seen by most views
    assert batch.world_points[above][:, :2].norm(dim=-1).max() < 8
    assert batch.z_depth[above].min() > 0.6
    assert batch.world_points[..., 2].flatten(1).amax(1).median() > 2


@pytest.mark.parametrize("arrangement", ["none", "facade", "street"])
def test_a_drone_flies_above_everything_and_looks_down(arrangement):
    options = SceneOptions.medium(kind="outdoor", motion="drone", path="walk", arrangement=arrangement)
    batch = render_scenes(range(16), 6, 32, 32, options)
    world = invert_rigid(batch.cam_from_world)
    assert world[:, :, 2, 2].max() < -0.5  # at most 60 degrees from straight down
    assert (batch.world_points[..., 2] < world[:, :, None, None, 2, 3])[batch.valid].all()
    assert batch.z_depth[batch.valid].min() > 0.8
    assert _seen_by_the_next(batch).median() > 0.3


def test_a_drone_flies_outdoors_alone():
    for kind in ("room", "mixed"):
        with pytest.raises(UsageError, match="drone"):
            SceneOptions(kind=kind, motion="drone")


def test_special_motions_are_not_drawn_by_mixed_and_work_for_few_views():
    for motion in SPECIAL_MOTIONS:
        one = render_scenes([3], 1, 4, 4, SceneOptions(kind="outdoor", motion=motion))
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
