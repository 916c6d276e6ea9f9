"""Frames attached to remembered anchors equal one pass over all frames, whatever the chunks."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.anchor_memory import (
    AnchorMemory,
    ChosenAnchors,
    RememberedKeys,
    SolvedKeys,
    attaching_plan,
    solving_plan,
    why_not_attachable,
)
from manyview.attention.dense import SameFrameKeys
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.anchors import AnchorKeys
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun

from .settings import small_layer


def _layer(frames: int):
    layout = TokenLayout(frames, 2, (3, 4))
    return layout, *small_layer(layout)


def _reference(attention, own, anchors, rotation, own_frame):
    """Naive: softmax over the anchors' tokens and those of one frame, all materialised."""
    seen = torch.cat([anchors, own], 1) if own_frame else anchors
    q, (k, v) = attention.queries(own, rotation), attention.keys_values(seen, rotation)
    return attention.output((q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1) @ v)


@pytest.mark.parametrize("own_frame", [True, False])
@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_layer_attaches_like_the_materialised_softmax(own_frame, chunk):
    layout, attention, tokens, rotation = _layer(5)
    frames = tokens.unflatten(1, (5, -1))
    keys, left = AnchorKeys(own_frame=own_frame, indices=(0, 1)), {}
    solving = GlobalAttention(keys=SolvedKeys(keys, left))
    whole = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun(7))
    torch.testing.assert_close(solving(attention, tokens, layout, rotation, LayerRun(7)), whole)
    assert list(left) == [7] and left[7][0].shape == (2, 2, 28, 8)
    attaching = GlobalAttention(keys=RememberedKeys(left, own_frame))
    for start in range(2, 5, chunk):
        part = frames[:, start : start + chunk]
        small = dataclasses.replace(layout, frames=part.shape[1])
        got = attaching(attention, part.flatten(1, 2), small, rotation, LayerRun(7))
        want = [
            _reference(attention, part[:, i], frames[:, :2].flatten(1, 2), rotation, own_frame)
            for i in range(part.shape[1])
        ]
        torch.testing.assert_close(got, torch.cat(want, 1))


def test_attached_frames_can_become_anchors_of_later_ones():
    layout, attention, tokens, rotation = _layer(3)
    frames = tokens.unflatten(1, (3, -1))
    first, left = {0: attention.keys_values(frames[:, 0], rotation)}, {}
    one = dataclasses.replace(layout, frames=1)
    GlobalAttention(keys=RememberedKeys(first, True, left))(
        attention, frames[:, 1], one, rotation, LayerRun(0)
    )
    both = AnchorMemory(first).joined(AnchorMemory(left))
    got = GlobalAttention(keys=RememberedKeys(both.layers))(
        attention, frames[:, 2], one, rotation, LayerRun(0)
    )
    want = _reference(attention, frames[:, 2], frames[:, :2].flatten(1, 2), rotation, True)
    torch.testing.assert_close(got, want)
    assert both.bytes == 2 * AnchorMemory(first).bytes == 2 * 2 * (2 * 2 * 14 * 8 * 8)


def test_memory_survives_as_named_tensors():
    pair = (torch.rand(1, 2, 3, 4), torch.rand(1, 2, 3, 4))
    memory = AnchorMemory({1: pair, 3: pair}, {0: pair})
    again = AnchorMemory.from_tensors({**memory.tensors(), "something else": torch.zeros(1)})
    assert again.layers.keys() == {1, 3} and again.camera.keys() == {0} and again.bytes == memory.bytes
    assert again.layers[3][1] is pair[1]
    with pytest.raises(KeyError):
        AnchorMemory.from_tensors({"layer 1 keys": pair[0]})


def test_the_chosen_are_those_of_one_pass_and_frame_0_is_solved_too():
    plan = Plan.parse("anchors:frames=4,sensitive=1x2,fewer=2,early=1", 4)
    features = torch.randn(1, 9, 6)
    chosen = ChosenAnchors.of(plan, 9, 0, features)
    want = AnchorKeys(frames=4).choose(9, 0, features)[0].tolist()
    assert chosen.frames == tuple(sorted(want)) and isinstance(chosen.plan.layers[0].keys, SameFrameKeys)
    assert [chosen.frames[i] for i in chosen.plan.layers[1].keys.indices] == want
    assert [chosen.frames[i] for i in chosen.plan.layers[3].keys.indices] == want[:2]
    named = GlobalAttention(keys=AnchorKeys(indices=(5, 2)))
    chosen = ChosenAnchors.of(Plan((named,), camera=named), 9, None, None)
    assert chosen.frames == (0, 2, 5) and chosen.plan.layers[0].keys.indices == (2, 1)
    # Even spreads are not nested: all that any layer needs is solved.
    even = Plan.parse("anchors:frames=4,choice=even,sensitive=0x0,fewer=2", 2)
    each = [set(AnchorKeys(n, "even").choose(12, 0, None)[0].tolist()) for n in (4, 2)]
    assert not each[1] <= each[0]
    assert ChosenAnchors.of(even, 12, 0, None).frames == tuple(sorted(each[0] | each[1]))


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("anchors", None),
        ("anchors:early=1,own_frame=false", None),
        ("anchors:cameras=all", "camera head"),
        ("anchors:descriptors=3", "descriptors"),
        ("dense", "no anchors"),
        ("frame", "no layer has anchors"),
        ("0:dense,1-2:anchors", "no anchors"),
        ("httm", "queries"),
    ],
)
def test_only_plans_of_anchors_can_attach(spec, reason):
    problem = why_not_attachable(Plan.parse(spec, 3))
    assert problem is None if reason is None else reason in problem


def test_plans_for_solving_and_attaching_keep_their_own_frames():
    plan = Plan.parse("anchors:frames=2,early=1", 3)
    chosen = ChosenAnchors.of(plan, 5, 0, torch.randn(1, 5, 4))
    memory = AnchorMemory()
    for made in (solving_plan(chosen.plan, memory), attaching_plan(chosen.plan, memory)):
        assert made.layers[0] == plan.layers[0] and str(made) == str(plan)
        assert made.camera is not None and not made.needs_frame_features
