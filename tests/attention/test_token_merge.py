"""FastVGGT's and Spark3R's merging against naive references, and their properties."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.merging.matching import match
from manyview.attention.merging.means import by_slot, means_of, pool, sorted_means
from manyview.attention.methods.fastvggt import SequenceMerge
from manyview.attention.methods.spark3r import GroupMergedQueries, query_factor
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun
from manyview.errors import UsageError

from .settings import LAYOUTS, small_layer


def _reference(x, layout, merge):
    """(members of every short token, the short token each token reads), from FastVGGT's rules."""
    per, special = layout.tokens_per_frame, layout.special_tokens
    plan = merge.plan(layout)
    (block,) = plan.merge.blocks
    into = set(block.tokens[0, block.into].tolist())
    many = int(merge.protect * layout.tokens)
    protected = [i * (layout.tokens // many) for i in range(many)]
    for token in range(layout.tokens):
        frame, place = divmod(token, per)
        assert (token in into) or (place >= special and frame != layout.reference_frame)
    sources = [t for t in range(layout.tokens) if t not in into and t not in protected]
    near = {}
    for t in sources:
        cosines = {d: float(torch.cosine_similarity(x[t], x[d], dim=0)) for d in sorted(into)}
        best = max(cosines, key=cosines.get)
        near[t] = (cosines[best], best)
    joining = sorted(sources, key=lambda t: -near[t][0])[: int(merge.ratio * layout.tokens)]
    groups = {t: [t] for t in (*into, *(t for t in sources if t not in joining))}
    for t in joining:
        groups[near[t][1]].append(t)
    short = [*groups.values(), *([t] for t in protected)]
    reads = {t: i for i, members in enumerate(short) for t in members}  # protected ones read their own
    return short, [reads[t] for t in range(layout.tokens)]


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    "merge", [SequenceMerge(), SequenceMerge(0.3, 0, (3, 2)), SequenceMerge(protect=0.25)]
)
def test_sequence_merge_equals_its_rules(layout, merge):
    attention, tokens, rotation = small_layer(layout)
    q, (k, v) = attention.queries(tokens, rotation), attention.keys_values(tokens, rotation)
    heads = torch.zeros_like(q)
    for b in range(2):
        short, reads = _reference(tokens[b], layout, merge)
        means = [torch.stack([x[b][:, members].mean(1) for members in short], 1) for x in (q, k, v)]
        out = (means[0] @ means[1].transpose(-1, -2) / 8**0.5).softmax(-1) @ means[2]
        heads[b] = out[:, reads]
    found = GlobalAttention(merge, merge)(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(found, attention.output(heads))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_switched_off_it_is_dense(layout):
    attention, tokens, rotation = small_layer(layout)
    dense = GlobalAttention()(attention, tokens, layout, rotation, LayerRun())
    off = SequenceMerge(ratio=0.0, protect=0)
    for method in (GlobalAttention(off, off), GlobalAttention(GroupMergedQueries(1))):
        torch.testing.assert_close(method(attention, tokens, layout, rotation, LayerRun()), dense)


def test_a_third_of_vggts_tokens_survive():
    share = SequenceMerge().count(TokenLayout(100, 5, (28, 37))) / (100 * 1041)
    assert 0.33 < share < 0.36  # as both the paper's code and HTTM's authors report


def test_one_patch_of_every_window_and_the_sheared_pattern():
    layout = TokenLayout(3, 0, (4, 5))
    (block,) = SequenceMerge(protect=0).plan(layout).merge.blocks
    kept = torch.zeros(60).scatter(0, block.tokens[0, block.into], 1).view(3, 4, 5)
    assert kept[0].all() and not kept[1:, :, 4].any()
    assert (kept[1:, :, :4].reshape(2, 2, 2, 2, 2).sum((2, 4)) == 1).all()
    (sheared,) = SequenceMerge(protect=0, sheared=True).plan(layout).merge.blocks
    kept = torch.zeros(60).scatter(0, sheared.tokens[0, sheared.into], 1).view(3, 20)
    assert not kept[1:, 16:].any()  # the pattern of 4x4 fills the first 16 of 20 patches
    assert (kept[1:, :16].view(2, 2, 2, 2, 2).sum((2, 4)) == 1).all()


@torch.no_grad()
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(("factor", "group"), [(2, 3), (4, 2), (3, 20)])
def test_group_merged_queries_equal_their_rules(layout, factor, group):
    attention, tokens, rotation = small_layer(layout)
    q, (k, v) = attention.queries(tokens, rotation), attention.keys_values(tokens, rotation)
    per, special, columns = layout.tokens_per_frame, layout.special_tokens, layout.grid[1]
    merged = q.clone()
    for b in range(2):
        for first in range(0, layout.frames, group):
            frames = range(first, min(first + group, layout.frames))
            into, other = [], []
            for f in frames:
                for p in range(layout.patches_per_frame):
                    row, column = divmod(p, columns)
                    on = (column + max(1, factor // 2) * row + f - first) % factor == 0
                    (into if on else other).append(f * per + special + p)
            groups = {t: [t] for t in into}
            for t in other:
                near = max(
                    into, key=lambda d: float(torch.cosine_similarity(tokens[b, t], tokens[b, d], dim=0))
                )
                groups[near].append(t)
            for members in groups.values():
                merged[b][:, members] = q[b][:, members].mean(1, keepdim=True)
    expected = (merged @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ v
    method = GlobalAttention(GroupMergedQueries(factor, group))
    found = method(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(found, attention.output(expected))


def test_queries_follow_the_papers_table():
    assert [query_factor(n) for n in (1, 100, 101, 300, 301, 500, 501, 1000)] == [1, 1, 2, 2, 3, 3, 4, 4]
    layout = TokenLayout(1000, 5, (28, 37))
    assert GroupMergedQueries().count(layout) == pytest.approx(1000 * (5 + 1036 / 4))


def test_identical_tokens_merge_without_loss_and_gradients_flow():
    layout = TokenLayout(4, 1, (3, 4))
    attention, tokens, rotation = small_layer(layout)
    tokens.unflatten(1, (4, -1))[:, 1:] = tokens.unflatten(1, (4, -1))[:, :1].clone()
    dense = GlobalAttention()(attention, tokens, layout, rotation, LayerRun())
    method = GlobalAttention(GroupMergedQueries(2, 4))
    tokens.requires_grad_()
    found = method(attention, tokens, layout, rotation, LayerRun())
    # Each source has an equal token (same place, another frame) among the destinations.
    torch.testing.assert_close(found, dense)
    found.square().sum().backward()
    assert tokens.grad is not None and (tokens.grad.norm(dim=-1) > 0).all()


def test_one_match_a_layer_serves_queries_and_keys(monkeypatch):
    import manyview.attention.methods.fastvggt as fastvggt

    layout = LAYOUTS[2]
    attention, tokens, rotation = small_layer(layout)
    calls = []
    monkeypatch.setattr(fastvggt, "match", lambda *a, **k: calls.append(1) or match(*a, **k))
    merge, run = SequenceMerge(), LayerRun()
    for layer in (0, 1):
        here = dataclasses.replace(run, layer=layer)
        GlobalAttention(merge, merge)(attention, tokens, layout, rotation, here)
    assert len(calls) == 2


def test_cost_counts_the_matching_once():
    layout = TokenLayout(10, 5, (6, 6))
    both = Plan.parse("fastvggt", 1).cost(layout, 16)
    assert both.extra_flops == SequenceMerge().plan(layout).merge.matching_flops(16)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("lists", [1, 3])
@pytest.mark.parametrize("by_token", [True, False])
def test_means_in_the_order_of_slots_are_those_of_added_rows(dtype, lists, by_token):
    torch.manual_seed(0)
    x = torch.randn(2, 50, 3, 8, dtype=torch.float64).to(dtype).transpose(1, 2)
    x = x if by_token else x.contiguous()
    slot = torch.randint(0, 12, (2, lists, 50))
    slot[slot == 5] = 4  # an empty slot
    sums, counts = pool(x.double(), slot, 12)
    members = by_slot(slot, 12)
    assert torch.equal(members.counts.expand(-1, 3, -1), counts.long())
    want = sums / counts[..., None].clamp(min=1)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(sorted_means(x, members).double(), want, rtol=eps, atol=eps)
    torch.testing.assert_close(means_of(x, slot, 12)[0].double(), want, rtol=eps, atol=eps)


def test_a_matching_serves_several_layers_and_fewer_channels(monkeypatch):
    layout = TokenLayout(6, 1, (2, 4))
    attention, tokens, rotation = small_layer(layout)
    seen = []

    def counted(features, *args, **kwargs):
        seen.append(features.shape[-1])
        return match(features, *args, **kwargs)

    monkeypatch.setattr("manyview.attention.methods.spark3r.match", counted)
    queries, run = GroupMergedQueries(3, 4, match_channels=8, match_every=2), LayerRun()
    outputs = [
        GlobalAttention(queries)(attention, tokens, layout, rotation, dataclasses.replace(run, layer=n))
        for n in range(3)
    ]
    assert seen == [8, 8] and torch.equal(outputs[0], outputs[1])
    assert queries.extra(layout, 16) == GroupMergedQueries(3, 4).extra(layout, 16) / 4
    with pytest.raises(UsageError, match="match_channels"):
        GlobalAttention(GroupMergedQueries(3, 4, 5))(attention, tokens, layout, rotation, LayerRun())
