"""Anchors against materialised masks; chunks and order do not matter."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.dense import AllKeys
from manyview.attention.frame_choice import covering, evenly
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.anchors import AnchorKeys
from manyview.attention.methods.avggt import DiagonalMean
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun
from manyview.errors import UsageError
from manyview.models.vggt.model import VGGT
from tests.train.tiny import MODEL

from .settings import small_layer

LAYOUT = TokenLayout(5, 2, (3, 4))


def _reference(attention, tokens, layout, rotation, anchors, own):
    q = attention.queries(tokens, rotation)
    k, v = attention.keys_values(tokens, rotation)
    frame = torch.arange(layout.tokens) // layout.tokens_per_frame
    seen = torch.isin(frame, torch.tensor(anchors))[None].expand(layout.tokens, -1)
    if own:
        seen = seen | (frame[:, None] == frame)
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    return attention.output(scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v)


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("anchors", [(0,), (0, 3), (4, 1, 2), (0, 1, 2, 3, 4)])
@pytest.mark.parametrize("reference", [0, None])
def test_agrees_with_the_masks(anchors, own, reference):
    layout = TokenLayout(5, 2, (3, 4), reference)
    attention, tokens, rotation = small_layer(layout)
    layer = GlobalAttention(keys=AnchorKeys(own_frame=own, indices=anchors))
    want = _reference(attention, tokens, layout, rotation, anchors, own)
    torch.testing.assert_close(layer(attention, tokens, layout, rotation, LayerRun()), want)
    single = layer(attention.float(), tokens.float(), layout, rotation, LayerRun(frames_per_chunk=2))
    torch.testing.assert_close(single.double(), want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_as_many_anchors_as_frames_is_dense(frames):
    layout = TokenLayout(frames, 2, (3, 4))
    attention, tokens, rotation = small_layer(layout)
    run = LayerRun(frame_features=torch.randn(2, frames, 4))
    got = GlobalAttention(keys=AnchorKeys(frames=9))(attention, tokens, layout, rotation, run)
    want = GlobalAttention(keys=AllKeys())(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(got, want)


def test_gradients_reach_every_token():
    attention, tokens, rotation = small_layer(LAYOUT)
    tokens.requires_grad_()
    layer = GlobalAttention(keys=AnchorKeys(indices=(0, 2)))
    layer(attention, tokens, LAYOUT, rotation, LayerRun()).square().sum().backward()
    assert tokens.grad is not None and bool((tokens.grad.abs().sum(-1) > 0).all())


def _network() -> VGGT:
    torch.manual_seed(3)
    model = VGGT(MODEL).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("others", [(1, 3, 4, 6), (6, 4, 3, 1), (4,), (3, 6)])
def test_other_frames_attach_in_any_order_and_chunk(others):
    """The depth of each frame is the same whichever other frames are there, and where."""
    model, images = _network(), torch.rand(7, 3, 16, 24, dtype=torch.float64)
    anchors = (0, 2, 5)

    def run(frames):
        plan = Plan((GlobalAttention(keys=AnchorKeys(indices=tuple(range(len(anchors))))),) * MODEL.depth)
        with torch.no_grad():
            return model(images[list(frames)], plan)

    whole, part = run((*anchors, 1, 3, 4, 6)), run((*anchors, *others))
    place = {frame: i for i, frame in enumerate((*anchors, 1, 3, 4, 6))}
    for index, frame in enumerate((*anchors, *others)):
        torch.testing.assert_close(part.z_depth[0, index], whole.z_depth[0, place[frame]], rtol=1e-9, atol=0)
    torch.testing.assert_close(part.z_depth[0, :3], run(anchors).z_depth[0], rtol=1e-9, atol=0)


def test_the_choice_is_made_once_and_serves_all_layers():
    memory: dict = {}
    attention, tokens, rotation = small_layer(LAYOUT)
    run = LayerRun(frame_features=torch.randn(2, 5, 8), memory=memory)
    layer = GlobalAttention(keys=AnchorKeys(frames=2))
    assert layer.needs_frame_features and not GlobalAttention().needs_frame_features
    first = layer(attention, tokens, LAYOUT, rotation, run)
    other = LayerRun(1, frame_features=torch.zeros(2, 5, 8), memory=memory)
    torch.testing.assert_close(layer(attention, tokens, LAYOUT, rotation, other), first)


def test_covering_frames_are_nested_different_and_spread():
    angle = torch.tensor([0.0, 0.1, 0.2, 2.0, 2.1, 4.0, 4.1])
    features = torch.stack([angle.cos(), angle.sin()], -1)[None]
    chosen = covering(features, 7)[0].tolist()
    assert sorted(chosen) == list(range(7)) and chosen[0] == 0
    assert covering(features, 3)[0].tolist() == chosen[:3]
    groups = [{0, 1, 2}, {3, 4}, {5, 6}]
    assert all(len(group & set(chosen[:3])) == 1 for group in groups)
    assert covering(features, 99).shape == (1, 7)


def test_even_frames_hold_the_first():
    assert evenly(10, 5) == [0, 3, 5, 7, 9]
    assert evenly(3, 9) == [0, 1, 2]
    assert evenly(100, 4, None) == [12, 37, 62, 87]


def test_wrong_combinations_and_options_raise():
    with pytest.raises(ValueError, match="AnchorKeys"):
        GlobalAttention(keys=AnchorKeys(), fill=DiagonalMean(diagonal=False, mean=False))
    with pytest.raises(ValueError, match="frames"):
        AnchorKeys(frames=0)
    attention, tokens, rotation = small_layer(LAYOUT)
    with pytest.raises(ValueError, match="7"):
        GlobalAttention(keys=AnchorKeys(indices=(0, 7)))(attention, tokens, LAYOUT, rotation, LayerRun())


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("reference", [0, None])
def test_descriptors_of_the_other_frames_count_their_patches(own, reference):
    """2x2 means at the position of their first patch, with log(patches per descriptor) on their logits."""
    layout, anchors = TokenLayout(4, 2, (4, 6), reference), (0, 2)
    attention, tokens, rotation = small_layer(layout)
    q, (k, v) = attention.queries(tokens, rotation), attention.keys_values(tokens, rotation)
    frame = torch.arange(layout.tokens) // layout.tokens_per_frame
    seen = torch.isin(frame, torch.tensor(anchors))[None].expand(layout.tokens, -1)
    if own:
        seen = seen | (frame[:, None] == frame)
    frames = tokens.unflatten(1, (4, -1))
    pooled = torch.nn.functional.avg_pool2d(
        frames[:, :, 2:].unflatten(2, (4, 6)).flatten(0, 1).movedim(3, 1), 2
    )
    short = torch.cat([frames[:, :, :2], pooled.movedim(1, 3).flatten(1, 2).unflatten(0, (2, 4))], 2)
    place = torch.tensor([0, 1, *(2 + 6 * y + x for y in (0, 2) for x in (0, 2, 4))])
    others = [1, 3]
    more_k, more_v = attention.keys_values(short[:, others].flatten(1, 2), rotation.select(place))
    bias = torch.tensor([0.0] * 2 + [torch.tensor(4.0).log()] * 6).repeat(2)
    scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~seen, float("-inf"))
    scores = torch.cat([scores, q @ more_k.transpose(-1, -2) / 8**0.5 + bias], -1)
    want = attention.output(scores.softmax(-1) @ torch.cat([v, more_v], 2))
    keys = AnchorKeys(own_frame=own, indices=anchors, descriptors=2)
    got = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(got, want)
    assert keys.count(layout) == (2 + own) * 26 + 4 * 8


def test_insensitive_layers_see_a_subset():
    plan = Plan.parse("anchors:frames=9,sensitive=2x4,fewer=4", 7)
    assert [layer.keys.frames for layer in plan.layers] == [2, 2, 9, 9, 9, 2, 2]
    with pytest.raises(UsageError, match="sensitive=3x9"):
        Plan.parse("anchors:sensitive=3x9", 4)
