"""Block-sparse attention against a materialised mask, and against dense attention."""

from __future__ import annotations

import math

import pytest
import torch

from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods import blocksparse
from manyview.attention.methods.blocksparse import BlockSparse, BlockSparseKeys
from manyview.attention.protocols import LayerRun, Queries

from .settings import small_layer

LAYOUTS = [
    TokenLayout(frames=1, special_tokens=5, grid=(4, 4)),
    TokenLayout(frames=2, special_tokens=5, grid=(7, 3)),
    TokenLayout(frames=3, special_tokens=0, grid=(3, 8), reference_frame=None),
]


def _reference(attention, tokens, layout, rotation, keys):
    q = attention.queries(tokens, rotation)
    k, v = attention.keys_values(tokens, rotation)
    place = torch.arange(layout.tokens) % layout.tokens_per_frame
    patch = (place >= layout.special_tokens).nonzero().squeeze(1)
    rows, columns = patch.split(keys.query_block), patch.split(keys.key_block)
    mask = torch.zeros(*q.shape[:2], layout.tokens, layout.tokens, dtype=torch.bool)
    mask[..., place < layout.special_tokens, :] = True
    mask[..., place < layout.special_tokens] = True
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for row in rows:
                scores = [q[b, h, row].mean(0) @ k[b, h, c].mean(0) / 8**0.5 for c in columns]
                share, order = torch.stack(scores).softmax(0).sort(descending=True)
                count, reached = 0, 0.0
                while count < len(columns) and (
                    count < max(1, math.floor((1 - keys.sparsity) * len(columns))) or reached < keys.tau
                ):
                    mask[b, h, row[:, None], columns[order[count]]] = True
                    reached += float(share[count])
                    count += 1
    scores = (q @ k.transpose(-1, -2) / 8**0.5).masked_fill(~mask, float("-inf"))
    return attention.output(scores.softmax(-1) @ v)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("gathered", [1, 3000, 1 << 24])
@pytest.mark.parametrize(
    "keys",
    [
        BlockSparseKeys(0.5, 0.3, 8, 4),
        BlockSparseKeys(0.9, 0.6, 8, 5),
        BlockSparseKeys(1.0, 0.0, 3, 7),
        BlockSparseKeys(0.25, 0.9, 128, 4),
    ],
)
def test_against_the_reference(layout, gathered, keys, monkeypatch):
    monkeypatch.setattr(blocksparse, "_GATHERED_CPU", gathered)
    attention, tokens, rotation = small_layer(layout)
    with torch.no_grad():
        got = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
        want = _reference(attention, tokens, layout, rotation, keys)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("keys", [BlockSparseKeys(0.0, 0.0, 8, 5), BlockSparseKeys(0.9, 1.0)])
def test_all_blocks_are_dense(layout, keys):
    attention, tokens, rotation = small_layer(layout)
    got = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun(0, 1))
    want = GlobalAttention()(attention, tokens, layout, rotation, LayerRun())
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_constant_values_stay_and_gradients_flow():
    layout = LAYOUTS[1]
    attention, tokens, rotation = small_layer(layout, torch.float32)
    layer = BlockSparse(0.8, 0.2, 8, 4).layers(3)[2]
    tokens.requires_grad_()
    layer(attention, tokens, layout, rotation, LayerRun()).square().sum().backward()
    assert tokens.grad is not None and (tokens.grad.abs().sum(-1) > 0).all()
    with torch.no_grad():
        attention.qkv.weight[-16:] = 0
        attention.qkv.bias[-16:] = 1
        got = layer(attention, tokens, layout, rotation, LayerRun())
        want = attention.output(torch.ones(2, 2, layout.tokens, 8))
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_shapes_alone_need_no_numbers():
    layout = LAYOUTS[1]
    attention, tokens, _ = small_layer(layout, torch.float32)
    layer = GlobalAttention(keys=BlockSparseKeys(0.5, 0.9, 8, 4))
    got = layer(attention.to("meta"), tokens.to("meta"), layout, None, LayerRun())
    assert got.shape == tokens.shape


def test_cost_and_impossible_options():
    layout = TokenLayout(frames=4, special_tokens=5, grid=(16, 16))
    assert BlockSparseKeys(0.0).count(layout) == pytest.approx(layout.tokens)
    half = BlockSparseKeys(0.5).count(layout)
    assert half == pytest.approx((5 * 4 * 261 + 256 * 4 * (5 + 128)) / 261)
    for wrong in ({"sparsity": 1.5}, {"tau": -0.1}, {"key_block": 0}):
        with pytest.raises(ValueError):
            BlockSparse(**wrong)
    with pytest.raises(ValueError, match="BlockSparseKeys"):
        GlobalAttention(queries=_Some(), keys=BlockSparseKeys())


class _Some(Queries):
    def reduce(self, layer):
        raise NotImplementedError
