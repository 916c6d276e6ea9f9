"""What auto picks, and the reason it gives."""

from __future__ import annotations

import pytest

from manyview.attention.auto import SuitedPlans, choose_plan, misfit
from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan


@pytest.mark.parametrize(
    ("frames", "ordered", "spec"),
    [
        (1, False, "dense"),
        (29, True, "dense"),
        (30, True, "avggt:stride=1x2"),
        (80, True, "avggt:stride=2x2"),
        (80, False, "avggt:stride=1x2"),
        (250, True, "avggt"),
        (250, False, "avggt:stride=2x3"),
        (400, True, "anchors"),
        (400, False, "anchors"),
    ],
)
def test_what_is_picked(frames, ordered, spec):
    plan, reason = choose_plan(frames, ordered, 8, TokenLayout(frames, 5, (14, 14)))
    assert plan == Plan.parse(spec, 8)
    assert spec in reason and str(frames) in reason


def test_tiny_grids_stay_dense():
    assert choose_plan(50, True, 4, TokenLayout(50, 5, (3, 9)))[0] == Plan.dense(4)


def test_cost_falls_as_sets_grow():
    def share(frames):
        layout = TokenLayout(frames, 5, (14, 14))
        chosen = choose_plan(frames, True, 8, layout)[0]
        return chosen.cost(layout, 8).attention_flops / Plan.dense(8).cost(layout, 8).attention_flops

    shares = [share(n) for n in (20, 40, 100, 150, 250)]
    assert shares == sorted(shares, reverse=True) and shares[0] == 1


def test_weights_may_say_how_many_early_layers_can_be_cut():
    layout = TokenLayout(100, 5, (14, 14))
    assert str(choose_plan(100, True, 8, layout, SuitedPlans(early=0))[0]) == "avggt:early=0,stride=2x2"
    assert str(choose_plan(100, True, 8, layout)[0]) == "avggt:stride=2x2"


def test_weights_trained_for_a_plan_get_it_for_any_number_of_frames():
    for frames in (2, 100, 500):
        plan, reason = choose_plan(frames, True, 8, TokenLayout(frames, 5, (14, 14)), SuitedPlans("flash"))
        assert plan == Plan.parse("flash", 8) and "trained for it" in reason


@pytest.mark.parametrize(
    ("spec", "warned"),
    [("dense", True), ("avggt", True), ("flash", False), ("flash:version=v2", False), ("flash:r=2", False)],
)
def test_other_plans_are_warned_of(spec, warned):
    assert (misfit(Plan.parse(spec, 8), SuitedPlans("flash")) is not None) == warned
    assert misfit(Plan.parse(spec, 8), SuitedPlans()) is None


@pytest.mark.parametrize(
    ("frames", "ordered", "spec"),
    [
        (29, True, "dense"),
        (100, True, "dense"),
        (101, True, "spark3r:sensitive=1x3"),
        (1000, True, "spark3r:sensitive=1x3"),
        (250, False, "dense"),
        (400, False, "anchors"),
    ],
)
def test_networks_that_need_whole_frames_as_keys(frames, ordered, spec):
    suited = SuitedPlans(coarse_keys=False, sensitive=(3 / 14, 13 / 14))
    assert choose_plan(frames, ordered, 4, TokenLayout(frames, 1, (24, 36)), suited)[0] == Plan.parse(spec, 4)
    assert misfit(Plan.parse(spec, 4), suited) is None
    assert misfit(Plan.parse("avggt", 4), suited) is not None
