"""HTTM's merging against a naive reference written from the paper's steps, and its properties."""

from __future__ import annotations

import math

import pytest
import torch

from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.httm import MergedKeys, MergedQueries, SpaceTimeBlocks, merge_plan
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerInput, LayerRun
from manyview.attention.softmax.lengths import attend_lengths

from .settings import LAYOUTS, small_layer


def _block_lists(layout, cut):
    """Blocks as lists of token numbers, straight from the description."""
    for first in range(0, layout.frames, cut.time):
        frames = range(first, min(first + cut.time, layout.frames))
        for start in range(0, layout.patches_per_frame, cut.space):
            run = range(start, min(start + cut.space, layout.patches_per_frame))
            yield [(f, f * layout.tokens_per_frame + layout.special_tokens + p) for f in frames for p in run]


def _reference_groups(x, layout, cut, ratio):
    """Members of each merged token of one head, in any order, for x [tokens, dim]."""
    groups = [
        [f * layout.tokens_per_frame + s] for f in range(layout.frames) for s in range(layout.special_tokens)
    ]
    for block in _block_lists(layout, cut):
        keep = len(block) - math.floor(ratio * len(block) + 1e-9)
        ids = [token for _, token in block]
        into = [t for f, t in block if cut.anchor_first and f == layout.reference_frame]
        others = [t for t in ids if t not in into]
        wanted = max(0, keep - len(into))
        into += [others[(2 * i + 1) * len(others) // (2 * wanted)] for i in range(wanted)]
        joined = {t: [t] for t in into}
        for t in ids:
            if t not in joined:
                near = max(sorted(into), key=lambda d: float(torch.cosine_similarity(x[t], x[d], dim=0)))
                joined[near].append(t)
        groups += list(joined.values())
    return groups


@torch.no_grad()
def _reference(attention, tokens, layout, rotation, queries, keys):
    q, (k, v) = attention.queries(tokens, rotation), attention.keys_values(tokens, rotation)
    heads = torch.zeros_like(q)
    for b in range(q.shape[0]):
        distance, groups_of = torch.zeros(q.shape[1:3], dtype=q.dtype), []
        for h in range(q.shape[1]):
            groups = _reference_groups(q[b, h], layout, queries.blocks, queries.ratio)
            groups_of.append(groups)
            for members in groups:
                mean = q[b, h, members].mean(0)
                for t in members:
                    special = t % layout.tokens_per_frame < layout.special_tokens
                    distance[h, t] = -1.0 if special else (q[b, h, t] - mean).norm()
        many = round(queries.outliers * (q.shape[1] * layout.frames * layout.patches_per_frame))
        out = set(_left(queries, attention, tokens, layout, rotation, b).tolist())
        # Two members of one pair are equally far: any choice among equals is a right one.
        rest = [i for i in range(distance.numel()) if i not in out]
        if distance.max() <= 0:  # nothing merged: no outliers
            many, out = 0, set()
        assert (
            len(out) == many
            and min(distance.flatten()[list(out)], default=1e9)
            >= max(distance.flatten()[rest], default=0.0) - 1e-9
        )
        for h in range(q.shape[1]):
            key_groups = _reference_groups(k[b, h], layout, keys.blocks, keys.ratio)
            mean_k = torch.stack([k[b, h, g].mean(0) for g in key_groups])
            mean_v = torch.stack([v[b, h, g].mean(0) for g in key_groups])
            bias = keys.count_bias * torch.tensor([float(len(g)) for g in key_groups]).log()
            for members in groups_of[h]:
                stay = [t for t in members if h * q.shape[2] + t not in out]
                for asking in [stay, *([t] for t in members if t not in stay)]:
                    if asking:
                        scores = q[b, h, asking].mean(0) @ mean_k.T / q.shape[-1] ** 0.5 + bias
                        heads[b, h, asking] = scores.softmax(-1) @ mean_v
    return attention.output(heads)


def _left(queries, attention, tokens, layout, rotation, b):
    """Numbers (head * tokens + token) of the queries that are outliers."""
    reduced = queries.reduce(LayerInput(attention, tokens, layout, rotation, LayerRun()))
    slots = merge_plan(layout, queries.blocks, queries.ratio).slots
    if reduced.lengths is None:
        return torch.zeros(0, dtype=torch.long)
    assert reduced.lengths.sum() == reduced.q.shape[2] and reduced.lengths.max() <= reduced.longest
    ends = reduced.lengths.flatten().cumsum(0).view_as(reduced.lengths)
    places = reduced.restore(torch.arange(reduced.q.shape[2], dtype=tokens.dtype)[None, None, :, None])[b]
    return (places[..., 0] >= (ends - reduced.lengths)[b, :, None] + slots).flatten().nonzero()[:, 0]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    ("q", "outliers", "kv", "anchor", "bias"),
    [(0.9, 0.1, 0.7, False, 0.0), (0.6, 0.0, 0.5, True, 1.0), (0.75, 0.35, 0.0, True, 0.0)],
)
def test_equals_the_paper_step_by_step(layout, q, outliers, kv, anchor, bias):
    attention, tokens, rotation = small_layer(layout)
    cut = SpaceTimeBlocks(space=6, time=3, anchor_first=anchor)
    queries, keys = MergedQueries(q, outliers, cut), MergedKeys(kv, bias, cut)
    found = GlobalAttention(queries, keys)(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(found, _reference(attention, tokens, layout, rotation, queries, keys))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_switched_off_it_is_dense(layout):
    attention, tokens, rotation = small_layer(layout)
    dense = GlobalAttention()(attention, tokens, layout, rotation, LayerRun())
    for queries in (MergedQueries(0.0, 0.0), MergedQueries(0.9, 1.0, SpaceTimeBlocks(5, 2))):
        method = GlobalAttention(queries, MergedKeys(0.0))
        torch.testing.assert_close(method(attention, tokens, layout, rotation, LayerRun()), dense)


def test_merging_identical_tokens_with_their_count_is_lossless():
    layout = TokenLayout(4, 1, (3, 4))
    attention, tokens, _ = small_layer(layout)
    frames = tokens.unflatten(1, (4, -1))
    frames[:, :, 1:] = frames[:, :1, 1:2]  # all patches alike, and no positions
    dense = GlobalAttention()(attention, tokens, layout, None, LayerRun())
    merged = GlobalAttention(
        MergedQueries(0.9, 0.0, SpaceTimeBlocks(4, 2)), MergedKeys(0.7, 1.0, SpaceTimeBlocks(4, 2))
    )
    torch.testing.assert_close(merged(attention, tokens, layout, None, LayerRun()), dense)


@pytest.mark.parametrize("layout", LAYOUTS[1:], ids=str)
def test_lengths_and_cost_are_what_is_computed(layout):
    attention, tokens, rotation = small_layer(layout)
    cut = SpaceTimeBlocks(6, 3, "random", True)
    queries, keys = MergedQueries(0.8, 0.2, cut), MergedKeys(0.6, blocks=cut)
    layer = LayerInput(attention, tokens, layout, rotation, LayerRun())
    reduced = queries.reduce(layer)
    assert reduced.lengths is not None
    outliers = (reduced.lengths - merge_plan(layout, cut, 0.8).slots).sum(1)
    assert (outliers == round(0.2 * 2 * layout.frames * layout.patches_per_frame)).all()
    assert reduced.lengths.double().mean() == pytest.approx(queries.count(layout), abs=0.5)
    assert keys.select(layer).k.shape[2] == keys.count(layout)
    assert queries.extra(layout, 16) > 0


def test_heads_merge_differently_and_gradients_flow():
    layout = TokenLayout(4, 1, (4, 6))
    attention, tokens, rotation = small_layer(layout)
    tokens.requires_grad_()
    method = GlobalAttention(
        MergedQueries(0.8, 0.1, SpaceTimeBlocks(8, 2)), MergedKeys(0.5, blocks=SpaceTimeBlocks(8, 2))
    )
    method(attention, tokens, layout, rotation, LayerRun()).square().sum().backward()
    assert (tokens.grad.norm(dim=-1) > 0).all()
    reduced = method.queries.reduce(LayerInput(attention, tokens, layout, rotation, LayerRun()))
    assert len(set(reduced.lengths.flatten().tolist())) > 1


def test_values_of_one_stay_one():
    lengths = torch.tensor([[40, 12, 30], [12, 0, 39]])
    q, k = torch.randn(1, 1, int(lengths.sum()), 8), torch.randn(2, 3, 30, 8)
    ones = attend_lengths(q, k, torch.ones_like(k), lengths, 40)
    torch.testing.assert_close(ones, torch.ones_like(ones))


def test_bfloat16_and_pieces_stay_near():
    layout = TokenLayout(6, 5, (4, 6))
    attention, tokens, rotation = small_layer(layout, torch.float32)
    method = Plan.parse("httm:space=8,time=3,q=0.5,outliers=0.5", 1).layers[0]
    whole = method(attention, tokens, layout, rotation, LayerRun())
    pieces = method(attention, tokens, layout, rotation, LayerRun(frames_per_chunk=2))
    torch.testing.assert_close(whole, pieces)
    half = method(attention.bfloat16(), tokens.bfloat16(), layout, rotation, LayerRun())
    assert (half.float() - whole).norm() < 0.2 * whole.norm()


def test_wrong_options_raise():
    with pytest.raises(ValueError, match="ratio"):
        MergedQueries(1.0)
    with pytest.raises(ValueError, match="ratio"):
        MergedKeys(-0.1)
    with pytest.raises(ValueError, match="outliers"):
        MergedQueries(0.5, 1.5)
    with pytest.raises(ValueError, match="0x3"):
        SpaceTimeBlocks(0, 3)
