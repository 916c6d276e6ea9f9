"""The schedule as pure functions of progress and step."""

from __future__ import annotations

import pytest

from manyview.synthetic.held_out import HELD_OUT_SEED
from manyview.train.config import OptimiserOptions, SceneMix, Stage
from manyview.train.schedule import blend, draw_step, learning_rate, position

from .tiny import STAGES, tiny_config


def test_position_follows_the_shares() -> None:
    stages = tuple(Stage(name=n, share=s, grids=((2, 2),)) for n, s in (("a", 1), ("b", 3)))
    assert position(stages, 0.0).stage.name == "a"
    assert position(stages, 0.125).within == pytest.approx(0.5)
    assert (position(stages, 0.25).index, position(stages, 0.25).within) == (1, 0.0)
    assert position(stages, 0.625).within == pytest.approx(0.5)
    assert (position(stages, 1.0).stage.name, position(stages, 1.0).within) == ("b", 1.0)


def test_learning_rate_warms_up_and_ends_at_its_floor() -> None:
    options = OptimiserOptions(lr=2.0, warmup_steps=10, final_lr=0.02)
    assert learning_rate(options, 0, 0.0) == pytest.approx(0.2)
    assert learning_rate(options, 9, 0.0) == pytest.approx(2.0)
    assert learning_rate(options, 100, 0.5) == pytest.approx(2.0 * 0.51)
    assert learning_rate(options, 100, 1.0) == pytest.approx(0.04)


def test_blend_moves_numbers_and_keeps_the_rest() -> None:
    start = {"haze": [4.0, 8.0], "boxes": [1, 3], "hard": 0.0, "kind": "room", "same": 5}
    end = {"haze": [8.0, 20.0], "boxes": [3, 7], "hard": 1.0, "kind": "mixed"}
    assert blend(start, end, 0.0) == {
        "haze": (4.0, 8.0),
        "boxes": (1, 3),
        "hard": 0.0,
        "kind": "room",
        "same": 5,
    }
    half = blend(start, end, 0.5)
    assert half == {"haze": (6.0, 14.0), "boxes": (2, 5), "hard": 0.5, "kind": "mixed", "same": 5}


def test_draws_depend_on_seed_step_and_rank_alone() -> None:
    config = tiny_config()
    here = position(config.stages, 0.0)
    first = draw_step(config, here, 5, 0)
    assert first == draw_step(config, here, 5, 0)
    other_rank, other_step = draw_step(config, here, 5, 1), draw_step(config, here, 6, 0)
    assert (first.grid, first.views) == (other_rank.grid, other_rank.views)
    assert not set(first.seeds) & (set(other_rank.seeds) | set(other_step.seeds))
    assert first != draw_step(tiny_config(seed=1), here, 5, 0)


def test_draws_cover_the_stage_and_stay_below_the_held_out_seeds() -> None:
    config = tiny_config()
    here = position(STAGES, 0.9)
    draws = [draw_step(config, here, step, 0) for step in range(200)]
    assert {draw.grid for draw in draws} == {(2, 3), (3, 2)}
    assert all(len(draw.seeds) == 2 and draw.views == 2 for draw in draws)
    assert max(seed for draw in draws for seed in draw.seeds) < HELD_OUT_SEED
    assert draws[0].scenes["haze_length"][1] == pytest.approx(41.0)


def test_mixes_are_drawn_by_their_shares() -> None:
    mixes = (SceneMix(3.0, {"kind": "room"}), SceneMix(1.0, {"kind": "outdoor"}))
    stage = Stage(name="mixed", share=1, grids=((2, 2),), scenes=mixes)
    config = tiny_config(stages=(stage,))
    kinds = [draw_step(config, position((stage,), 0.0), step, 0).scenes["kind"] for step in range(400)]
    assert kinds.count("outdoor") == pytest.approx(100, abs=30)
