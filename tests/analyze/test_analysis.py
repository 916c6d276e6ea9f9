"""The whole analysis on a tiny network, its files, and the command."""

from __future__ import annotations

import json

import pytest
import torch

from manyview.analyze.analysis import Subject, analyse
from manyview.analyze.knockouts import KINDS, change, predict, with_layer
from manyview.analyze.matches import exact_matches, predicted_matches
from manyview.analyze.suggest import suggest_split
from manyview.attention.plan import Plan
from manyview.evaluate.benchmark import Case
from manyview.models.network import Predictions
from tests.cli.conftest import command, photos, weights  # noqa: F401
from tests.models.tiny import TINY, tiny_vggt


@pytest.fixture(scope="module")
def scene():
    return Case("easy", 3).render(0, (42, 56))


def test_knockouts_are_what_running_the_plan_by_hand_gives(scene):
    model = tiny_vggt()
    found = analyse(model, [Subject(scene.images[0], scene)], queries=20)
    dense = predict(model, scene.images[0], Plan.dense(TINY.depth))
    for layer in (0, TINY.depth - 1):
        plan = Plan.parse(",".join(
            f"{i}:{'frame' if i == layer else 'dense'}" for i in range(TINY.depth)
        ), TINY.depth)  # fmt: skip
        want = change(predict(model, scene.images[0], plan), dense, scene.cam_from_world[0])
        assert found.knockouts["frame"][layer] == want
    assert set(found.knockouts) == set(KINDS) and found.exact
    for view in found.views:
        n = view.numbers
        total = n.mass_own_patch + n.mass_own_frame + n.mass_reference + n.mass_other_frames + n.mass_special
        assert total == pytest.approx(1.0, abs=1e-5)


def test_a_layer_with_one_mean_key_gives_every_token_the_same(scene):
    plan = with_layer(TINY.depth, 1, KINDS["mean"])
    assert plan.cost(predict(tiny_vggt(), scene.images[0], plan).layout, TINY.dim).attention_flops > 0


def test_predicted_matches_of_the_truth_are_the_exact_ones(scene):
    layout = predict(tiny_vggt(), scene.images[0], Plan.dense(TINY.depth)).layout
    found = Predictions(42, 56, layout)
    found.cameras, found.z_depth = (scene.cam_from_world, scene.intrinsics), scene.z_depth
    got, want = predicted_matches(scene.images[0], found, 14), exact_matches(scene, 14)
    both = got.visible & want.visible
    assert both.sum() > 0.9 * want.visible.sum()
    torch.testing.assert_close(got.place[both], want.place[both], atol=2e-3, rtol=0)


def test_split_and_plan():
    split = suggest_split([0.1, 0.0, 3.0, 9.0, 4.0, 0.2])
    assert (split.first, split.last, split.plan) == (2, 4, "avggt:early=2,stride=2x2")
    assert "early: 0-1, middle: 2-4, late: 5-5" in split.sentence()
    Plan.parse(split.plan, 6)
    assert suggest_split([0.0, 0.0]).first == 0


def test_command_on_scenes_and_on_pictures(command, photos, weights, tmp_path):  # noqa: F811
    out = tmp_path / "analysis"
    status, said, told = command(
        "analyze", "synthetic", "--model", weights, "--views", 3, "--scenes", 1, "--queries", 16, "--out", out
    )
    assert status == 0, told
    assert "best head" in said and "suggested plan avggt:early=" in said
    data = json.loads((out / "analysis.json").read_text())
    assert len(data["layers"]) == TINY.depth and data["exact_matches"] is True
    page = (out / "report.html").read_text()
    assert "data:image/png;base64," in page and "src='http" not in page
    status, said, told = command("analyze", photos, "--model", weights, "--knockouts", "frame", "--views", 3)
    assert status == 0, told
    assert "the network's own depth" in said and "3 of 4 pictures" in said


def test_bad_input_is_one_sentence(command, photos, weights, tmp_path):  # noqa: F811
    for line, about in (
        (("analyze",), "give an input"),
        (("analyze", "synthetic", "--views", 1), "at least 2 views"),
        (("analyze", photos / "photo_0.jpg", "--model", weights), "at least 2 views"),
        (("analyze", photos, "--model", weights, "--accel", "frame"), "leave out --accel"),
    ):
        status, _, told = command(*line)
        assert status == 2 and about in told
