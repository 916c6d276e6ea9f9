"""Keys and operations that are counted without the places of all tokens, against those of the places."""

from __future__ import annotations

import pytest

from manyview.attention.layout import TokenLayout
from manyview.attention.methods.avggt import GridKeys
from manyview.attention.methods.httm import MergedKeys, SpaceTimeBlocks, merge_plan
from manyview.attention.methods.random import RandomKeys
from manyview.attention.methods.spark3r import GroupMergedQueries, _group_plan

LAYOUTS = [
    TokenLayout(1, 2, (3, 5)),
    TokenLayout(7, 2, (3, 5)),
    TokenLayout(23, 1, (4, 4), reference_frame=None),
    TokenLayout(11, 0, (2, 7), reference_frame=4),
]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_keys_of_a_mask(layout):
    grids = [
        GridKeys((2, 3), edge, phase_shift) for edge in ("ceil", "floor") for phase_shift in (False, True)
    ]
    for keys in (*grids, GridKeys((3, 3)), RandomKeys(0.3), RandomKeys(0.01), RandomKeys(1.0)):
        assert keys.count(layout) == int(keys.kept(layout).sum())


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("anchor", [False, True])
def test_merged_blocks(layout, anchor):
    for space, time, ratio in ((4, 3, 0.5), (5, 2, 0.9), (128, 30, 0.7), (6, 4, 0.0)):
        blocks = SpaceTimeBlocks(space, time, anchor_first=anchor)
        plan, keys = merge_plan(layout, blocks, ratio), MergedKeys(ratio, blocks=blocks)
        assert (keys.count(layout), keys.extra(layout, 8)) == (plan.slots, plan.matching_flops(8))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("group", [1, 4, 20])
def test_merged_groups(layout, group):
    for factor in (1, 2, 3):
        queries = GroupMergedQueries(factor, group)
        plan = _group_plan(queries, layout, factor)
        assert (queries.count(layout), queries.extra(layout, 8)) == (plan.slots, plan.matching_flops(8))
