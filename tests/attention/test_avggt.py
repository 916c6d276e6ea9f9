"""AVGGT against a reference written from its equations, and properties of its options."""

from __future__ import annotations

import math

import pytest
import torch

from manyview.attention.dense import NoFill, SameFrameKeys
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.avggt import Avggt, DiagonalMean, GridKeys
from manyview.attention.protocols import KeySet, LayerInput, LayerRun, QuerySet
from manyview.errors import UsageError

from .settings import small_layer

LAYOUTS = [
    TokenLayout(3, 2, (4, 5)),
    TokenLayout(1, 1, (3, 3)),
    TokenLayout(2, 5, (7, 3), reference_frame=None),
    TokenLayout(4, 0, (2, 6), reference_frame=2),
]


def _kept(layout, stride, edge):
    """Straight from the text: specials, the reference frame, the top-left patch of each window."""
    kept = []
    for token in range(layout.tokens):
        frame, place = divmod(token, layout.tokens_per_frame)
        row, column = divmod(place - layout.special_tokens, layout.grid[1])
        special = place < layout.special_tokens
        corner = row % stride[0] == 0 and column % stride[1] == 0
        inside = edge == "ceil" or all(p + s <= n for p, s, n in zip((row, column), stride, layout.grid))
        if special or frame == layout.reference_frame or (corner and inside):
            kept.append(token)
    return kept


def _reference(attention, tokens, layout, rotation, stride, edge, diagonal, mean, gain, before):
    q = attention.queries(tokens, rotation)
    k, v = attention.keys_values(tokens, rotation)
    kept = _kept(layout, stride, edge)
    dropped = [t for t in range(layout.tokens) if t not in kept]
    rows = []
    for i in range(layout.tokens):
        keys, values, extra = [k[:, :, kept]], [v[:, :, kept]], [k.new_zeros(len(kept))]
        if diagonal and i in dropped:
            keys, values, extra = [*keys, k[:, :, [i]]], [*values, v[:, :, [i]]], [*extra, k.new_zeros(1)]
        if mean and dropped:
            plain = attention.keys_values(tokens, None)[0] if before else k
            keys.append(plain[:, :, dropped].mean(2, keepdim=True))
            values.append(v[:, :, dropped].mean(2, keepdim=True))
            extra.append(k.new_full((1,), gain * math.log(len(dropped))))
        logits = torch.einsum("bhd,bhkd->bhk", q[:, :, i], torch.cat(keys, 2)) / q.shape[-1] ** 0.5
        weights = (logits + torch.cat(extra)).softmax(-1)
        rows.append(torch.einsum("bhk,bhkd->bhd", weights, torch.cat(values, 2)))
    return attention.output(torch.stack(rows, 2))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("edge", ["ceil", "floor"])
@pytest.mark.parametrize(
    "fill",
    [(True, True, 0.0, False), (True, False, 0.0, False), (False, True, 0.7, False), (True, True, 1.0, True)],
)
def test_agrees_with_the_equations(layout, edge, fill):
    diagonal, mean, gain, before = fill
    attention, tokens, rotation = small_layer(layout)
    preset = Avggt(0, (2, 2), edge, False, diagonal, mean, gain, before)
    got = preset.layers(1)[0](attention, tokens, layout, rotation, LayerRun())
    want = _reference(attention, tokens, layout, rotation, (2, 2), edge, diagonal, mean, gain, before)
    torch.testing.assert_close(got, want, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_subsample_agrees_and_single_precision_is_close(layout):
    attention, tokens, rotation = small_layer(layout)
    layer = GlobalAttention(keys=GridKeys((2, 3)))
    want = _reference(attention, tokens, layout, rotation, (2, 3), "ceil", False, False, 0.0, False)
    torch.testing.assert_close(layer(attention, tokens, layout, rotation, LayerRun()), want)
    single = layer(attention.float(), tokens.float(), layout, rotation, LayerRun())
    torch.testing.assert_close(single.double(), want, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_mean_token_as_key_agrees_with_the_text(layout):
    """G2M: keys and values of all tokens reduced to their means, softmax and all."""
    attention, tokens, rotation = small_layer(layout)
    q, (k, v) = attention.queries(tokens, rotation), attention.keys_values(tokens, rotation)
    scores = q @ k.mean(2, keepdim=True).transpose(-1, -2) / q.shape[-1] ** 0.5
    want = attention.output(scores.softmax(-1) @ v.mean(2, keepdim=True))
    first, *_, last = Avggt(1, (2, 2), early_keys="mean").layers(3)
    got = first(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
    assert last == Avggt(0, (2, 2)).layers(1)[0] and first.keys.count(layout) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
def test_stride_one_is_dense(layout):
    attention, tokens, rotation = small_layer(layout)
    layer = Avggt(0, (1, 1)).layers(1)[0]
    dense = GlobalAttention()(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(layer(attention, tokens, layout, rotation, LayerRun()), dense)


def test_softmax_adds_up_to_one_and_gradients_flow():
    layout = LAYOUTS[0]
    attention, tokens, rotation = small_layer(layout)
    with torch.no_grad():
        attention.qkv.weight[32:] = 0
        attention.qkv.bias[32:] = 1
    tokens.requires_grad_()
    layer = Avggt(0, (2, 2), gain=0.5).layers(1)[0]
    got = layer(attention, tokens, layout, rotation, LayerRun())
    ones = attention.output(torch.ones(2, 2, layout.tokens, 8, dtype=torch.float64))
    torch.testing.assert_close(got, ones)
    torch.manual_seed(1)
    attention.qkv.weight.data.normal_()
    layer(attention, tokens, layout, rotation, LayerRun()).square().sum().backward()
    assert tokens.grad is not None and bool((tokens.grad.abs().sum(-1) > 0).all())


@pytest.mark.parametrize("dtype, off", [(torch.float16, 2e-4), (torch.bfloat16, 2e-3), (torch.float32, 1e-6)])
@pytest.mark.parametrize("by_head", [True, False])
def test_the_mean_of_very_many_tokens_keeps_its_precision(dtype, off, by_head):
    """In half precision one over their number would be subnormal, and their sum too large."""
    layout, heads, dim = TokenLayout(4000, 1, (4, 5)), 2, 8
    shape = (1, heads, layout.tokens, dim) if by_head else (1, layout.tokens, heads, dim)
    generator = torch.Generator().manual_seed(0)
    k, v = ((3 + torch.randn(shape, generator=generator)).to(dtype) for _ in range(2))
    k, v = (k, v) if by_head else (k.transpose(1, 2), v.transpose(1, 2))
    dropped = torch.arange(layout.tokens) % 9 != 0
    count = int(dropped.sum())
    keys = KeySet(k[:, :, :1], v[:, :, :1], None, ~dropped, k, v, dropped=count)
    # The mean outweighs the one key that is kept, so that outputs are the mean of the values.
    fill = DiagonalMean(diagonal=False, gain=30.0)
    q = torch.zeros(1, heads, 3, dim, dtype=dtype)
    layer = LayerInput(small_layer(layout)[0], v.transpose(1, 2).flatten(2), layout, None, LayerRun())
    got = fill.attend(layer, QuerySet(q), keys)
    want = v.double()[:, :, dropped].mean(2, keepdim=True).expand_as(got)
    torch.testing.assert_close(got.double(), want, rtol=torch.finfo(dtype).eps + off, atol=0)


def test_other_frames_may_be_permuted():
    layout = TokenLayout(4, 2, (4, 4))
    attention, tokens, rotation = small_layer(layout)
    layer = Avggt(0, (2, 2)).layers(1)[0]
    frames = tokens.unflatten(1, (4, -1))
    order = [0, 3, 1, 2]
    got = layer(attention, frames[:, order].flatten(1, 2), layout, rotation, LayerRun())
    want = layer(attention, tokens, layout, rotation, LayerRun()).unflatten(1, (4, -1))[:, order]
    torch.testing.assert_close(got, want.flatten(1, 2))


def test_shifted_grids_cover_the_grid_together():
    layout = TokenLayout(6, 1, (4, 6), reference_frame=None)
    kept = GridKeys((2, 3), phase_shift=True).kept(layout).unflatten(0, (6, -1))[:, 1:]
    assert kept.sum(0).eq(1).all()
    assert kept.sum(1).eq(4).all()


def test_counts_are_what_is_selected():
    layout = TokenLayout(3, 5, (28, 37))
    # The papers' sizes: 19 x 14 windows kept with "ceil", 18 x 14 with "floor".
    per_frame = {e: (GridKeys((2, 2), e).count(layout) - 5 * 3 - 28 * 37) / 2 for e in ("ceil", "floor")}
    assert per_frame == {"ceil": 266, "floor": 252}
    layer = Avggt(1, (2, 2)).layers(2)
    assert layer[0].keys.count(LAYOUTS[0]) == LAYOUTS[0].tokens_per_frame


def test_early_layers_follow_the_papers_share():
    for depth, early in ((24, 9), (8, 3), (6, 2)):
        layers = Avggt().layers(depth)
        assert len(layers) == depth
        assert [type(x.keys).__name__ for x in layers].count("SameFrameKeys") == early


def test_wrong_options_raise():
    with pytest.raises(UsageError, match="early"):
        Avggt(early=9).layers(8)
    with pytest.raises(ValueError, match="stride"):
        GridKeys((0, 2))
    with pytest.raises(ValueError, match="edge"):
        GridKeys(edge="round")
    with pytest.raises(ValueError, match="project_all"):
        GlobalAttention(keys=GridKeys(), fill=DiagonalMean())
    with pytest.raises(ValueError, match="keys_before_rope"):
        GlobalAttention(keys=GridKeys(project_all=True), fill=DiagonalMean(mean_before_positions=True))
    assert GlobalAttention(keys=GridKeys(), fill=NoFill()) == GlobalAttention(keys=GridKeys())


def test_early_layers_of_the_published_networks():
    early = {depth: sum(a.keys == SameFrameKeys() for a in Avggt().layers(depth)) for depth in (24, 18, 8)}
    assert early == {24: 9, 18: 10, 8: 3}
