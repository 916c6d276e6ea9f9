"""Hidden patches are no keys: against attention with the region removed by hand, layer by layer and whole."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from manyview.attention.dense import AllKeys
from manyview.attention.global_attention import DENSE, SAME_FRAME, GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.avggt import Avggt
from manyview.attention.methods.gotohunt import CoveringFrameKeys
from manyview.attention.methods.random import RandomKeys
from manyview.attention.methods.spark3r import EveryFrameKeys, GroupMergedQueries
from manyview.attention.plan import Plan
from manyview.attention.protocols import Keys, LayerInput, LayerRun
from manyview.attention.visible_keys import VisibleKeys, hide_keys
from manyview.models.run_options import RunOptions
from tests.attention.settings import run_with_features, small_layer
from tests.models.da3.tiny_da3 import tiny_da3
from tests.models.omega.tiny_omega import tiny_omega
from tests.models.tiny import tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3, tiny_pi3x

LAYOUTS = [
    TokenLayout(2, 5, (3, 7)),
    TokenLayout(6, 2, (3, 5)),
    TokenLayout(5, 0, (4, 6), reference_frame=None),
]
LAYERS = {
    "dense": DENSE,
    "random": GlobalAttention(keys=RandomKeys(0.5)),
    "frames": GlobalAttention(GroupMergedQueries(1), EveryFrameKeys(2)),
    "covering": GlobalAttention(keys=CoveringFrameKeys(2, 2)),
    "avggt": Avggt(0, (2, 2)).layers(1)[0],
    "avggt mean before": Avggt(0, (2, 2), gain=1.0, mean_before_positions=True).layers(1)[0],
}


def some_hidden(layout, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(layout.frames, layout.patches_per_frame, generator=generator) < 0.4


def tokens_of(hidden, layout):
    return torch.nn.functional.pad(hidden, (layout.special_tokens, 0)).flatten()


def by_hand(layer, attention, tokens, layout, rotation, run, hidden):
    """Every query's softmax written out over the visible ones of the keys that the layer's part names."""
    q, (k, v) = attention.queries(tokens, rotation), attention.keys_values(tokens, rotation)
    index = layer.keys.token_index(LayerInput(attention, tokens, layout, rotation, run))[0]
    hidden = tokens_of(hidden, layout)
    kept = index[~hidden[index]].tolist()
    dropped = [t for t in range(layout.tokens) if t not in kept and not hidden[t]]
    fill, rows = layer.fill, []
    for i in range(layout.tokens):
        keys, values, extra = [k[:, :, kept]], [v[:, :, kept]], [k.new_zeros(len(kept))]
        if getattr(fill, "diagonal", False) and i in dropped:
            keys, values, extra = [*keys, k[:, :, [i]]], [*values, v[:, :, [i]]], [*extra, k.new_zeros(1)]
        if getattr(fill, "mean", False) and dropped:
            plain = attention.keys_values(tokens, None)[0] if fill.mean_before_positions else k
            keys.append(plain[:, :, dropped].mean(2, keepdim=True))
            values.append(v[:, :, dropped].mean(2, keepdim=True))
            extra.append(k.new_full((1,), fill.gain * math.log(len(dropped))))
        logits = torch.einsum("bhd,bhkd->bhk", q[:, :, i], torch.cat(keys, 2)) / q.shape[-1] ** 0.5
        weights = (logits + torch.cat(extra)).softmax(-1)
        rows.append(torch.einsum("bhk,bhkd->bhd", weights, torch.cat(values, 2)))
    return attention.output(torch.stack(rows, 2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("chunk", [None, 1])
def test_agrees_with_removal_by_hand(layout, name, chunk):
    attention, tokens, rotation = small_layer(layout)
    layer, tokens, hidden = LAYERS[name], tokens[:1], some_hidden(layout)
    run = dataclasses.replace(run_with_features(tokens, layout), frames_per_chunk=chunk)
    (seen,) = hide_keys(Plan((layer,)), hidden)[0].layers
    with torch.no_grad():
        got = seen(attention, tokens, layout, rotation, run)
        want = by_hand(layer, attention, tokens, layout, rotation, run, hidden)
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
        # What hidden patches hold changes nothing for all others, to the last bit.
        places = tokens_of(hidden, layout)
        noise = torch.where(places[None, :, None], torch.randn_like(tokens), tokens)
        again = seen(attention, noise, layout, rotation, dataclasses.replace(run, memory={}))
    assert torch.equal(again[:, ~places], got[:, ~places])
    assert not torch.equal(again[:, places], got[:, places])


def test_nothing_hidden_is_the_plan_itself():
    layout = LAYOUTS[1]
    attention, tokens, rotation = small_layer(layout)
    for layer in LAYERS.values():
        run = run_with_features(tokens[:1], layout)
        (seen,) = hide_keys(Plan((layer,)), torch.zeros_like(some_hidden(layout)))[0].layers
        want = layer(attention, tokens[:1], layout, rotation, run)
        got = seen(attention, tokens[:1], layout, rotation, dataclasses.replace(run, memory={}))
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_frames_in_another_order():
    layout = LAYOUTS[0]
    attention, tokens, rotation = small_layer(layout)
    hidden, order = some_hidden(layout), torch.tensor([[1, 0]])
    keys = VisibleKeys(AllKeys(), hidden)
    moved = VisibleKeys(AllKeys(), hidden[order[0]])
    want = GlobalAttention(keys=moved)(attention, tokens[:1], layout, rotation, LayerRun())
    run = LayerRun(frame_order=order)
    got = GlobalAttention(keys=keys)(attention, tokens[:1], layout, rotation, run)
    assert torch.equal(got, want)


@pytest.mark.parametrize("plan", ["anchors:frames=2", "fastvggt", "httm", "blocksparse", "flash"])
def test_plans_that_cannot_leave_tokens_out_stay_and_say_so(plan):
    plan = Plan.parse(plan, 4)
    same, sentence = hide_keys(plan, some_hidden(LAYOUTS[0]))
    assert same is plan and str(plan) in sentence


def test_layers_within_frames_stay():
    mixed = Plan.parse("0:frame,1:dense,2-3:anchors", 4)
    plan, sentence = hide_keys(mixed, some_hidden(LAYOUTS[0]))
    kinds = [isinstance(layer.keys, VisibleKeys) for layer in plan.layers]
    assert kinds == [False, True, False, False] and plan.layers[0] == SAME_FRAME
    assert str(plan) == str(mixed) and "2 layers" in sentence


@dataclasses.dataclass(frozen=True)
class KeysByHand(Keys):
    """All keys, those of hidden patches at minus infinity, in plain operations."""

    hidden: tuple[tuple[bool, ...], ...]
    per_query = True

    def attend_layer(self, layer):
        hidden = torch.tensor(self.hidden)
        order = layer.run.frame_order
        hidden = hidden if order is None else hidden[order[0]]
        q, (k, v) = layer.queries(), layer.keys_values()
        logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
        logits = logits.masked_fill(tokens_of(hidden, layer.layout), float("-inf"))
        return layer.attention.output(logits.softmax(-1) @ v)

    def count(self, layout):
        return layout.tokens


@pytest.mark.parametrize("make", [tiny_vggt, tiny_pi3, tiny_pi3x, tiny_omega, tiny_da3])
def test_whole_networks_of_every_family(make):
    model = make().double()
    layout = model.config.layout(4, 4 * model.config.patch_size, 3 * model.config.patch_size)
    hidden = some_hidden(layout)
    torch.manual_seed(0)
    images = torch.rand(4, 3, 4 * model.config.patch_size, 3 * model.config.patch_size, dtype=torch.float64)
    depth = model.config.depth
    keys = KeysByHand(tuple(map(tuple, hidden.tolist())))
    with torch.no_grad():
        got = model(images, hide_keys(Plan.dense(depth), hidden)[0])
        want = model(images, Plan((GlobalAttention(keys=keys),) * depth))
        plain = model(images)
    torch.testing.assert_close(got.z_depth, want.z_depth, rtol=1e-7, atol=1e-9)
    torch.testing.assert_close(got.cam_from_world, want.cam_from_world, rtol=1e-7, atol=1e-9)
    assert not torch.allclose(got.z_depth, plain.z_depth, rtol=1e-6)


def test_a_network_that_puts_another_view_first():
    model, order = tiny_da3().double(), [2, 0, 1, 3]  # of four views the middle one
    size = model.config.patch_size
    layout = model.config.layout(4, 4 * size, 3 * size)
    hidden, images = some_hidden(layout), torch.rand(4, 3, 4 * size, 3 * size, dtype=torch.float64)
    plan, moved = (hide_keys(Plan.dense(model.config.depth), x)[0] for x in (hidden, hidden[order]))
    with torch.no_grad():
        got = model(images, plan, RunOptions(reference_view="middle"))
        want = model(images[order], moved, RunOptions(reference_view="first"))
    torch.testing.assert_close(got.z_depth[:, order], want.z_depth, rtol=1e-9, atol=1e-9)
