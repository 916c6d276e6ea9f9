"""Which frames each rank has: every frame once, in order, in whole blocks."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manyview.attention.layout import TokenLayout
from manyview.distributed.frames import FrameSplit


@given(st.integers(1, 300), st.integers(1, 70), st.integers(1, 40))
def test_every_frame_is_on_one_rank_and_blocks_are_whole(frames, ranks, together):
    splits = [FrameSplit.of(frames, ranks, rank, together) for rank in range(ranks)]
    active = [split for split in splits if split is not None]
    assert splits[: len(active)] == active  # the others come last
    assert [split.first for split in active] == [0, *(split.stop for split in active[:-1])]
    assert active[-1].stop == frames == active[0].frames
    assert all(split.first % together == 0 for split in active)
    blocks = [-(-split.count // together) for split in active]
    assert max(blocks) - min(blocks) <= 1 and blocks == sorted(blocks, reverse=True)
    assert active[0].ranks == len(active) == min(ranks, -(-frames // together))
    assert [split.owner(frame) for split in active for frame in (split.first, split.stop - 1)] == [
        rank for rank in range(len(active)) for _ in range(2)
    ]
    assert active[0].parts == tuple(active)


def test_known_splits():
    assert FrameSplit.of(65, 4, 0).counts == (17, 16, 16, 16)
    assert FrameSplit.of(64, 4, 0, together=30).counts == (30, 30, 4)
    assert FrameSplit.of(64, 4, 3, together=30) is None


def test_impossible_splits_raise():
    for numbers in ((0, 1, 0), (1, 0, 0), (3, 2, 2), (3, 2, -1), (3, 2, 0, 0)):
        with pytest.raises(ValueError):
            FrameSplit.of(*numbers)
    for counts, rank in (((), 0), ((2, 0), 0), ((2, 2), 2)):
        with pytest.raises(ValueError):
            FrameSplit(counts, rank)
    with pytest.raises(ValueError, match="frame 4"):
        FrameSplit((2, 2), 0).owner(4)


def test_the_part_of_a_layout_has_the_reference_frame_where_it_is():
    whole = TokenLayout(7, 2, (3, 4), reference_frame=3)
    parts = [whole.part(split) for split in FrameSplit((3, 2, 2), 0).parts]
    assert [part.frames for part in parts] == [3, 2, 2]
    assert [part.reference_frame for part in parts] == [None, 0, None]
    equal = dataclasses.replace(whole, reference_frame=None)
    assert equal.part(FrameSplit((3, 4), 1)) == dataclasses.replace(equal, frames=4)
    with pytest.raises(ValueError, match="6 frames"):
        whole.part(FrameSplit((3, 3), 0))
