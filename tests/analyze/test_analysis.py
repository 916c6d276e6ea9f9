"""The whole analysis on a tiny network, its files, and the command."""

from __future__ import annotations

import json
import sys

import pytest
import torch

from manyview.analyze.analysis import Subject, analyse
from manyview.analyze.knockouts import KINDS, change, predict
from manyview.analyze.matches import exact_matches, predicted_matches
from manyview.analyze.report import table
from manyview.analyze.suggest import suggest_split
from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun
from manyview.evaluate.protocols.procedural import Case
from manyview.models.blocks import Attention
from manyview.models.network import Predictions
from tests.cli.conftest import command, weights  # noqa: F401
from tests.models.tiny import TINY, tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3


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
    assert found.dense_auc_30 == change(dense, dense, scene.cam_from_world[0]).auc_30
    for view in found.views:
        n = view.numbers
        total = n.mass_own_patch + n.mass_own_frame + n.mass_reference + n.mass_other_frames + n.mass_special
        assert total == pytest.approx(1.0, abs=1e-5)


def test_one_mean_key_adds_the_mean_value_to_every_token():
    torch.manual_seed(0)
    attention, layout = Attention(16, 2), TokenLayout(3, 1, (2, 2))
    tokens = torch.randn(2, layout.tokens, 16)
    found = KINDS["mean"](attention, tokens, layout, None, LayerRun())
    _, v = attention.keys_values(tokens, None)
    want = attention.output(v.mean(2, keepdim=True).expand_as(v))
    torch.testing.assert_close(found, want)


@pytest.mark.parametrize("views", [2, 3])
def test_networks_without_a_reference_frame(views):
    images = torch.rand(views, 3, 56, 56, generator=torch.Generator().manual_seed(0))
    found = analyse(tiny_pi3(), [Subject(images)], ("frame",), queries=10, seed=3)
    assert not found.exact and found.dense_auc_30 is None and len(found.suggested) == len(found.split.plans)
    assert all(view.numbers.mass_reference == 0 < view.numbers.mass_other_frames for view in found.views)
    assert all(change.auc_30 is None for change in found.knockouts["frame"])


def test_the_probe_rotates_every_second_image_and_never_the_first(scene, monkeypatch):
    seen = []

    def watched(model, images, *rest):
        seen.append(images)
        return predict(model, images, *rest)

    monkeypatch.setattr("manyview.analyze.analysis.predict", watched)
    analyse(tiny_vggt(), [Subject(scene.images[0], scene)], (), queries=5)
    assert [torch.equal(a, b) for a, b in zip(seen[-1], scene.images[0], strict=True)] == [True, False, True]
    torch.testing.assert_close(seen[-1][1], scene.images[0, 1].rot90(2, (1, 2)))


def test_without_knockouts_nothing_is_suggested(scene):
    found = analyse(tiny_vggt(), [Subject(scene.images[0], scene)], (), queries=5)
    assert found.split is None and found.suggested == () and found.knockouts == {}
    assert "suggested" not in table(found)


def test_predicted_matches_of_the_truth_are_the_exact_ones(scene):
    layout = predict(tiny_vggt(), scene.images[0], Plan.dense(TINY.depth)).layout
    found = Predictions(42, 56, layout)
    found.cameras, found.z_depth = (scene.cam_from_world, scene.intrinsics), scene.z_depth
    got, want = predicted_matches(scene.images[0], found, 14), exact_matches(scene, 14)
    both = got.visible & want.visible
    assert both.sum() > 0.9 * want.visible.sum()
    torch.testing.assert_close(got.place[both], want.place[both], atol=2e-3, rtol=0)


def test_split_and_plan():
    nothing = [float("nan")] * 6
    split = suggest_split([0.1, 0.0, 3.0, 9.0, 4.0, 0.6], nothing)
    assert (split.first, split.last, split.idle) == (2, 4, (0, 1))
    assert split.plans == ("0-1:frame,2-5:dense", "avggt:early=2,stride=2x2")
    assert "early: 0-1, middle: 2-4, late: 5-5" in split.sentence()
    for plan in split.plans:
        Plan.parse(plan, 6)
    # A layer that finds matches belongs to the middle though its cut is small, unless it does nothing at all.
    assert suggest_split([0.1, 0.0, 3.0, 9.0, 4.0, 0.6], [0.9, 0, 0.2, 0.9, 0.1, 0.5]).last == 5
    assert suggest_split([0.1, 0.0, 3.0, 9.0, 4.0, 0.6], [0.9, 0, 0.2, 0.9, 0.1, 0.5]).first == 2
    idle = suggest_split([0.0, 0.0], [0.0, 0.0])
    assert idle.first == 0 and idle.idle == ()


def test_command_on_scenes_and_on_images(command, photos, weights, tmp_path):  # noqa: F811
    out = tmp_path / "analysis"
    status, said, told = command(
        "analyze", "synthetic", "--model", weights, "--views", 3, "--scenes", 1, "--queries", 16, "--out", out
    )
    assert status == 0, told
    assert "rotated:" in said and "suggested plan avggt:early=" in said and "AUC@30" in said
    data = json.loads((out / "analysis.json").read_text())
    assert len(data["layers"]) == TINY.depth and data["exact_matches"] is True
    assert [Plan.parse(tried["plan"], TINY.depth) for tried in data["suggested"]]
    page = (out / "report.html").read_text()
    assert "data:image/png;base64," in page and "src='http" not in page
    status, said, told = command("analyze", photos, "--model", weights, "--knockouts", "frame", "--views", 3)
    assert status == 0, told
    assert "predicted depth" in said and "3 of 4 images" in said


def test_bad_input_is_one_sentence(command, photos, weights, tmp_path):  # noqa: F811
    for line, about in (
        (("analyze",), "give an input"),
        (("analyze", "synthetic", "--views", 1), "at least 2 views"),
        (("analyze", photos / "0.png", "--model", weights), "at least 2 views"),
        (("analyze", photos, "--model", weights, "--accel", "frame"), "leave out --accel"),
    ):
        status, _, told = command(*line)
        assert status == 2 and about in told


def test_plots_need_their_library_before_any_work(command, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    status, said, told = command("analyze", "synthetic", "--out", tmp_path / "a")
    assert status == 2 and "manyview[plot]" in told and said == "" and not (tmp_path / "a").exists()


def test_an_earlier_analysis_is_not_overwritten(command, weights, tmp_path):  # noqa: F811
    (tmp_path / "analysis.json").write_text("mine")
    status, _, told = command("analyze", "synthetic", "--model", weights, "--out", tmp_path)
    assert status == 1 and "--overwrite" in told
    assert (tmp_path / "analysis.json").read_text() == "mine"
