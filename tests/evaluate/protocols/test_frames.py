"""Which frames each rule takes."""

from __future__ import annotations

import json

import pytest

from manyview.evaluate.protocols.frames import Frames
from manyview.evaluate.protocols.published import POSED, PROTOCOLS


def test_rules_by_hand() -> None:
    assert Frames("every", 3).choose(10) == [0, 3, 6, 9]
    assert Frames("every", 3, most=2).choose(10) == [0, 3]
    assert len(Frames("every", 3, most=90).choose(3000)) == 90
    assert Frames("every", 3, most=90).choose(3000)[-1] == 267  # within the first 270
    assert Frames("half-every", 10).choose(8) == [0, 4]
    assert Frames("half-every", 10).choose(1) == [0]
    assert Frames("half-every", 3).choose(10) == [0, 3, 6, 9]
    assert Frames("spread", most=3).choose(9) == [0, 4, 8]
    assert Frames("spread", most=30).choose(4) == [0, 1, 2, 3]
    # 101 frames, 11 asked: the first and every 10th of the rest.
    assert Frames("first-then-every", most=11).choose(101) == list(range(0, 101, 10))
    # 100 frames, 8 asked: floor(99 / 7) = 14.
    assert Frames("first-then-every", most=8).choose(100) == [0, 14, 28, 42, 56, 70, 84, 98]


def test_random_frames_belong_to_a_scene_and_a_seed() -> None:
    rule = Frames("random", most=10)
    chosen = rule.choose(200, "apple/1")
    assert chosen == rule.choose(200, "apple/1") == sorted(set(chosen)) and len(chosen) == 10
    assert chosen != rule.choose(200, "apple/2")
    assert chosen != Frames("random", most=10, seed=42).choose(200, "apple/1")


@pytest.mark.parametrize("wrong", [{"stride": 0}, {"most": 0}, {"rule": "random"}, {"rule": "spread"}])
def test_impossible_rules_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="frames"):
        Frames(**wrong)


def test_every_protocol_can_be_stored() -> None:
    for protocol in (*PROTOCOLS.values(), POSED):
        assert json.loads(json.dumps(protocol.to_json(), allow_nan=False))["name"] == protocol.name
