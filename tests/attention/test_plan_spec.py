"""Plans from text and back, and errors for text that is none."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manyview.attention.dense import AllQueries
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.avggt import Avggt, DiagonalMean
from manyview.attention.plan import Plan, compose
from manyview.attention.plan_spec import preset_from_spec, spec_of
from manyview.errors import UsageError


@settings(deadline=None)
@given(
    st.builds(
        Avggt,
        early=st.none() | st.integers(0, 4),
        stride=st.tuples(st.integers(1, 4), st.integers(1, 4)),
        edge=st.sampled_from(["ceil", "floor"]),
        phase_shift=st.booleans(),
        diagonal=st.booleans(),
        gain=st.floats(0, 2),
    )
)
def test_specs_round_trip(preset):
    assert preset_from_spec(spec_of(preset)) == preset
    plan = Plan.parse(spec_of(preset), 8)
    assert plan.layers == preset.layers(8) and Plan.parse(str(plan), 8) == plan


def test_a_single_number_is_a_square_stride():
    assert preset_from_spec("avggt:stride=2") == Avggt(stride=(2, 2))
    assert str(Plan.parse("avggt", 8)) == "avggt"


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("avgtt", "avggt"),
        ("avggt:strid=2", "early=none, stride=3x3"),
        ("avggt:stride=axb", "axb"),
        ("avggt:stride=0x1", "stride"),
        ("avggt:early=many", "many"),
        ("avggt:diagonal=perhaps", "perhaps"),
        ("avggt:edge=round", "ceil, floor"),
        ("avggt:early=1,early=2", "early"),
        ("avggt:early=99", "early=99"),
    ],
)
def test_wrong_options_raise_and_name_what_is_wrong(spec, named):
    with pytest.raises(UsageError, match=named):
        Plan.parse(spec, 8)


def test_the_table_has_a_line_for_each_run_of_layers():
    layout = TokenLayout(10, 5, (10, 14))
    lines = Plan.parse("avggt:stride=2x2", 8).table(layout).splitlines()
    assert len(lines) == 2
    assert lines[0].split()[0] == "0-2" and "10.0% of dense" in lines[0]
    assert lines[1].split()[0] == "3-7" and "GridKeys" in lines[1]


def test_equal_layers_are_equal_plans_whatever_their_names():
    assert Plan.parse("avggt:early=8", 8) == Plan.frame_only(8)


def test_composition_takes_the_same_frame_then_the_first_reduced_keys():
    got = Plan.parse("avggt:early=2,stride=2x2+flash:r=2", 4)
    assert got == Plan.parse("avggt:early=2,stride=2x2", 4) != Plan.parse("flash:r=2", 4)
    assert Plan.parse("0-1:frame,2-3:dense+flash:r=2", 4).layers[2:] == Plan.parse("flash:r=2", 4).layers[2:]
    assert Plan.parse(str(got), 4) == got


def test_merged_queries_lose_the_diagonal_and_keep_the_mean():
    class Merged(AllQueries):
        every_token = False

    grid = Plan.parse("avggt:early=0", 1).layers[0]
    got = compose((grid, GlobalAttention(queries=Merged())))
    assert type(got.queries) is Merged and got.keys == grid.keys
    assert got.fill == DiagonalMean(diagonal=False)


def test_ranges_may_name_presets():
    plan = Plan.parse("0-1:frame,2-3:avggt", 4)
    assert plan.layers[2:] == Plan.parse("avggt", 4).layers[2:]
    assert Plan.parse(str(plan), 4) == plan
