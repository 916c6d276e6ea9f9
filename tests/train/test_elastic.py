"""Plans drawn for a step: from the seed and the step alone, by their shares, one per layer."""

from __future__ import annotations

from collections import Counter

import pytest

from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.train.config import Stage
from manyview.train.elastic import draw_plan


def test_a_menu_of_dense_alone_is_the_dense_plan():
    assert draw_plan({"dense": 1.0}, 5, 0, 3) == Plan.dense(5)


def test_draws_depend_on_seed_and_step():
    menu = {"dense": 1.0, "frame": 1.0}
    plans = [draw_plan(menu, 8, 1, step) for step in range(20)]
    assert plans == [draw_plan(menu, 8, 1, step) for step in range(20)]
    assert len(set(plans)) > 10
    assert plans != [draw_plan(menu, 8, 2, step) for step in range(20)]


def test_every_layer_draws_by_the_shares():
    counts: Counter[str] = Counter()
    for step in range(500):
        for layer in draw_plan({"dense": 3.0, "frame": 1.0}, 4, 0, step).layers:
            counts["dense" if layer == Plan.dense(1).layers[0] else "frame"] += 1
    assert 0.70 < counts["dense"] / 2000 < 0.80


@pytest.mark.parametrize("menu", [{}, {"dense": 0.0}, {"dense": -1.0}])
def test_impossible_menus_are_refused(menu):
    with pytest.raises(UsageError, match="plans"):
        Stage("s", 1.0, ((4, 4),), plans=menu)


def test_early_layers_are_cut_together_in_their_share_of_steps() -> None:
    shares = {"dense": 1.0, "flash:r=2": 1.0}
    plans = [draw_plan(shares, 8, 0, step, early_share=0.5) for step in range(200)]
    own = Plan.frame_only(1).layers[0]
    counts = [sum(layer == own for layer in plan.layers) for plan in plans]
    assert set(counts) == {0, 1, 2, 3} and 60 < sum(count > 0 for count in counts) < 140
    assert all(layer == own for plan, n in zip(plans, counts, strict=True) for layer in plan.layers[:n])
