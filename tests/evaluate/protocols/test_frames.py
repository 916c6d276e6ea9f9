"""Which frames each rule takes."""

from __future__ import annotations

import dataclasses
import json

import pytest

from manyview.evaluate.protocols.frames import Frames
from manyview.evaluate.protocols.published import POSED, PROTOCOLS

from ..published_cases import published_case


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


def test_frames_are_those_of_published_code() -> None:
    published = published_case("frames").outputs
    for name, wanted in published.items():
        set_, *numbers = name.split("_")
        if set_ == "fastvggt":
            total, most = map(int, numbers)
            assert Frames("first-then-every", most=most).choose(total) == wanted, name
        elif set_ == "da3":
            total, most = map(int, numbers)
            rule = dataclasses.replace(frames_of("da3-pose", "7-scenes"), most=most)
            assert rule.choose(total) == wanted, name
        elif set_ == "ttt3r":
            rule = dataclasses.replace(frames_of("long-trajectory", "scannet"), most=int(numbers[2]))
            assert rule.choose(int(numbers[1])) == wanted, name
        elif set_ == "bonn":
            assert frames_of("pi3-video-depth-bonn", "bonn").choose(int(numbers[0])) == wanted, name
    # One generator runs on through the sequences of a data set, and the order of the draw is kept.
    for name, protocol, dataset, totals in (
        ("pi3_re10k_seed42", "pi3-pose", "realestate10k", [279, 237, 229, 89, 142]),
        ("pi3_co3d_seed42", "pi3-pose", "co3d", [202] * 5),
        ("vggt_co3d_seed0", "vggt-pose", "co3d", [102, 202, 87]),
    ):
        rule = frames_of(protocol, dataset)
        assert rule.choose_all(totals) == published[name], name
        assert rule.choose_all([5, *totals])[1:] == published[name]  # a short sequence draws nothing


def frames_of(protocol: str, dataset: str) -> Frames:
    return PROTOCOLS[protocol].frames_of(dataset)


@pytest.mark.parametrize(
    "wrong", [{"stride": 0}, {"most": 0}, {"rule": "random"}, {"rule": "spread"}, {"rule": "shuffle"}]
)
def test_impossible_rules_are_refused(wrong) -> None:
    with pytest.raises(ValueError, match="frames"):
        Frames(**wrong)


def test_every_protocol_can_be_stored() -> None:
    for protocol in (*PROTOCOLS.values(), POSED):
        assert json.loads(json.dumps(protocol.to_json(), allow_nan=False))["name"] == protocol.name
