"""Keys of few frames and random keys against materialised masks, and the methods made of them."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.dense import SameFrameKeys
from manyview.attention.frame_choice import covering
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.gotohunt import CoveringFrameKeys
from manyview.attention.methods.random import RandomKeys
from manyview.attention.methods.spark3r import EveryFrameKeys
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerInput, LayerRun
from manyview.errors import UsageError

from .settings import LAYOUTS, run_with_features, small_layer


def _masked(attention, tokens, rotation, mask):
    """Dense attention with the scores of hidden keys struck out; mask [batch, tokens]."""
    q, (k, v) = attention.queries(tokens, rotation), attention.keys_values(tokens, rotation)
    scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~mask[:, None, None], float("-inf"))
    return attention.output(scores.softmax(-1) @ v)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("period", "multiple"), [(1, 1), (2, 1), (2, 3), (100, 1)])
def test_every_frame_keys(layout, period, multiple):
    attention, tokens, rotation = small_layer(layout)
    kept = torch.zeros(layout.frames, dtype=torch.bool)
    kept[:: period * multiple] = True
    kept[layout.reference_frame or 0] = True
    mask = kept.repeat_interleave(layout.tokens_per_frame).expand(2, -1)
    keys = EveryFrameKeys(period, multiple)
    found = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(found, _masked(attention, tokens, rotation, mask))
    assert keys.count(layout) == int(mask[0].sum())


def test_every_frame_keys_follow_the_papers_table():
    def frames(count, multiple=1):
        return len(EveryFrameKeys(multiple=multiple).frames(TokenLayout(count, 5, (2, 2))))

    assert [frames(n) for n in (1, 100, 101, 1000)] == [1, 100, 34, 40]
    assert [frames(n, 3) for n in (100, 1000)] == [100, 14]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("count", "stride"), [(1, 1), (3, 2), (50, 1), (2, 3)])
def test_covering_frame_keys(layout, count, stride):
    attention, tokens, rotation = small_layer(layout)
    run = run_with_features(tokens, layout)
    chosen = covering(run.frame_features, count, layout.reference_frame)
    patches = torch.zeros(layout.grid, dtype=torch.bool)
    patches[::stride, ::stride] = True
    place = torch.cat([torch.ones(layout.special_tokens, dtype=torch.bool), patches.flatten()])
    frames = torch.zeros(2, layout.frames, dtype=torch.bool).scatter(1, chosen, True)
    mask = (frames[..., None] & place).flatten(1)
    keys = CoveringFrameKeys(count, stride)
    found = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, run)
    torch.testing.assert_close(found, _masked(attention, tokens, rotation, mask))
    assert keys.count(layout) == int(mask[0].sum())


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("project_all", [False, True])
def test_random_keys(layout, project_all):
    attention, tokens, rotation = small_layer(layout)
    keys = RandomKeys(0.3, 5, project_all)
    layer = LayerInput(attention, tokens, layout, rotation, LayerRun())
    kept = keys.select(layer).kept
    assert kept is not None
    frames = kept.view(layout.frames, -1)
    assert frames[:, : layout.special_tokens].all()
    many = frames[:, layout.special_tokens :].sum(1)
    others = torch.arange(layout.frames) != (-1 if layout.reference_frame is None else layout.reference_frame)
    assert (many[others] == max(1, round(0.3 * layout.patches_per_frame))).all()
    assert (many[~others] == layout.patches_per_frame).all()
    found = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(found, _masked(attention, tokens, rotation, kept.expand(2, -1)))


def test_random_keys_differ_by_seed_and_frame_and_keep_all_at_one():
    layout = TokenLayout(4, 1, (4, 4), reference_frame=None)
    attention, tokens, rotation = small_layer(layout)
    layer = LayerInput(attention, tokens, layout, rotation, LayerRun())
    one, two = (RandomKeys(0.25, seed).select(layer).kept for seed in (0, 1))
    assert (one != two).any() and len({tuple(f.tolist()) for f in one.view(4, -1)}) > 1
    dense = GlobalAttention()(attention, tokens, layout, rotation, LayerRun())
    whole = GlobalAttention(keys=RandomKeys(1.0))(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(whole, dense)


def test_gotohunt_follows_its_paper_on_vggt():
    layers = Plan.parse("gotohunt", 24).layers
    assert [isinstance(a.keys, SameFrameKeys) for a in layers] == [True] * 2 + [False] * 22
    assert [a.keys.stride for a in layers[2:]] == [2] * 7 + [1] * 15
    assert {a.keys.frames for a in layers[2:]} == {25}


def test_spark3r_follows_its_paper_on_vggt():
    layers = Plan.parse("spark3r", 24).layers
    assert [i for i, a in enumerate(layers) if a.keys.multiple == 1] == list(range(11, 17))
    assert {a.keys.multiple for a in layers} == {1, 3}
    small = Plan.parse("spark3r", 8)
    assert [i for i, a in enumerate(small.layers) if a.keys.multiple == 1] == [4, 5]
    assert Plan.parse("spark3r:q=2,r=3,sensitive=0x1", 4).layers[1].keys.period == 3


def test_wrong_plans_raise():
    for spec in ("gotohunt:early=5,full=2", "spark3r:sensitive=3x9", "fastvggt:start=7"):
        with pytest.raises(UsageError, match=spec.split(":")[0]):
            Plan.parse(spec, 4)
    for spec, option in (("random:keep=0", "keep"), ("fastvggt:ratio=2", "ratio"), ("spark3r:q=0", "factor")):
        with pytest.raises(UsageError, match=option):
            Plan.parse(spec, 4)


@pytest.mark.parametrize(
    "spec", ["random:fill=true", "avggt:early=1+httm", "avggt+spark3r:q=2", "flash+httm"]
)
def test_compositions_run_and_cost_less(spec):
    layout = TokenLayout(6, 2, (8, 8))
    plan = Plan.parse(spec, 2)
    attention, tokens, rotation = small_layer(layout, torch.float32)
    for layer in plan.layers:
        out = layer(attention, tokens, layout, rotation, run_with_features(tokens, layout))
        assert out.isfinite().all() and out.shape == tokens.shape
    assert plan.cost(layout, 16).attention_flops < Plan.dense(2).cost(layout, 16).attention_flops
