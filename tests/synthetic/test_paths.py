from __future__ import annotations

import pytest
import torch

from manyview.synthetic import SceneOptions, render_scenes


def _rotations(batch):
    """Angle between all pairs of views, degrees [b, views, views]."""
    rotation = batch.cam_from_world[..., :3].double()
    trace = torch.einsum("bsij,btij->bst", rotation, rotation)
    return torch.rad2deg(torch.acos(((trace - 1.0) / 2.0).clamp(-1.0, 1.0)))


@pytest.mark.parametrize(("motion", "degrees"), [("wide", 29.0), ("medium", 21.0), ("narrow", 10.5)])
@pytest.mark.parametrize("path", ["orbit", "walk", "unordered"])
@pytest.mark.parametrize("kind", ["room", "outdoor"])
def test_motion_names_mean_their_rotation(kind, path, motion, degrees):
    batch = render_scenes(range(64), 8, 4, 4, SceneOptions(kind=kind, path=path, motion=motion))
    pairs = _rotations(batch)[:, *torch.triu_indices(8, 8, 1)]
    assert 0.82 * degrees < pairs.median() < 1.18 * degrees


def test_a_walk_is_a_smooth_sequence_and_a_set_is_not():
    def step_over_span(path):
        angle = _rotations(render_scenes(range(24), 16, 4, 4, SceneOptions(path=path)))
        steps = angle.diagonal(offset=1, dim1=1, dim2=2).mean(-1)
        return (steps / angle.flatten(1).amax(-1)).median()

    assert step_over_span("walk") < 0.15 < 0.2 < step_over_span("unordered")


def test_light_changes_between_views_only_when_asked():
    still = render_scenes(range(4), 3, 16, 16, SceneOptions.hard(light_change=0.0))
    moved = render_scenes(range(4), 3, 16, 16, SceneOptions.hard(light_change=1.0))
    assert torch.equal(still.z_depth, moved.z_depth)
    ratio = moved.images.mean((2, 3, 4)) / still.images.mean((2, 3, 4))
    assert (ratio.amax(1) / ratio.amin(1)).median() > 1.1


def test_haze_hides_what_is_far():
    clear = render_scenes(range(4), 2, 24, 24, SceneOptions(haze_free_share=1.0))
    hazy = render_scenes(range(4), 2, 24, 24, SceneOptions(haze_length=(2.0, 2.0)))
    far = clear.z_depth > 3.0
    spread = [images.movedim(2, -1)[far].std() for images in (clear.images, hazy.images)]
    assert spread[1] < 0.5 * spread[0]
