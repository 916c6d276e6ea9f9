from __future__ import annotations

import json

import pytest

from manyview.errors import UsageError
from manyview.synthetic import SceneOptions, correspondence, render_scenes


@pytest.mark.parametrize(
    "knobs",
    [
        {"kind": "garden"},
        {"path": "fly"},
        {"motion": "huge"},
        {"fov_degrees": (80.0, 60.0)},
        {"fov_degrees": (70.0,)},
        {"fov_degrees": 70.0},
        {"boxes": (1.5, 3)},
        {"boxes": (-1, 3)},
        {"texture_hardness": 1.5},
        {"texture_hardness": float("nan")},
        {"haze_length": (0.0, 5.0)},
        {"samples_per_side": 2},
        {"texture_bank_seed": -1},
        {"light_strength": True},
    ],
)
def test_a_knob_out_of_range_is_named(knobs):
    with pytest.raises(UsageError, match=next(iter(knobs))):
        SceneOptions(**knobs)


@pytest.mark.parametrize("preset", [SceneOptions.easy, SceneOptions.medium, SceneOptions.hard])
def test_options_survive_json(preset):
    options = preset(texture_bank_seed=7)
    assert SceneOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_an_unknown_knob_is_named():
    with pytest.raises(UsageError, match="fog"):
        SceneOptions.from_dict({"fog": 1})


def test_presets_rise_in_difficulty():
    easy, medium, hard = SceneOptions.easy(), SceneOptions.medium(), SceneOptions.hard()
    assert easy.texture_hardness < medium.texture_hardness < hard.texture_hardness
    assert easy.haze_free_share < medium.haze_free_share < hard.haze_free_share
    assert easy.boxes[1] < medium.boxes[1] < hard.boxes[1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (([], 2, 8, 8), "seed"),
        (([-1], 2, 8, 8), "-1"),
        (([1.5], 2, 8, 8), "1.5"),
        (([1], 0, 8, 8), "views"),
        (([1], 2, 8.0, 8), "height"),
        (([1], 2, 8, -3), "width"),
    ],
)
def test_a_bad_request_is_one_sentence(arguments, named):
    with pytest.raises(UsageError, match=named):
        render_scenes(*arguments)


@pytest.mark.parametrize("kind", ["room", "outdoor"])
def test_empty_flat_scenes_and_tiny_images_are_fine(kind):
    options = SceneOptions(kind=kind, boxes=(0, 0), spheres=(0, 0), cylinders=(0, 0), terrain_relief=0.0)
    batch = render_scenes([1, 2], 2, 1, 5, options)
    assert batch.images.shape == (2, 2, 3, 1, 5)
    assert batch.images.isfinite().all()
    assert correspondence(batch, 1).visible.shape == (2, 2, 2, 5)
