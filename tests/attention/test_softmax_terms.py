"""One softmax over shared keys, weighted keys and terms of each query, against the equations."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.softmax import bf16_cpu, terms
from manyview.attention.softmax.logsumexp import attend_with_lse
from manyview.attention.softmax.sdpa import attend_in_pieces
from manyview.attention.softmax.terms import MeanTerm, OwnTerm, attend_own_frame, merge_terms
from manyview.attention.softmax.weighted import attend_weighted, attend_weighted_with_lse

SHAPES = [(1, 1, 1, 1, 8), (2, 3, 7, 11, 32), (1, 2, 300, 400, 12)]


def _plain(q, k, v, log_weight, own, mean):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if log_weight is not None:
        scores = scores + log_weight.expand(*k.shape[:3])[:, :, None]
    v = v[:, :, None].expand(-1, -1, q.shape[2], -1, -1)
    if own is not None:
        logit = own.logit if own.key is None else (q * own.key).sum(-1) / q.shape[-1] ** 0.5
        if own.absent is not None:
            logit = logit.masked_fill(own.absent[:, None], float("-inf"))
        scores, v = torch.cat([scores, logit[..., None]], -1), torch.cat([v, own.value[..., None, :]], 3)
    if mean is not None:
        logit = (q @ mean.key[..., None]) / q.shape[-1] ** 0.5 + mean.log_weight
        one = mean.value[:, :, None, None].expand(-1, -1, q.shape[2], -1, -1)
        scores, v = torch.cat([scores, logit], -1), torch.cat([v, one], 3)
    return (scores.softmax(-1)[..., None] * v).sum(3)


def _drawn(shape, dtype=torch.float64):
    batch, heads, queries, keys, dim = shape
    generator = torch.Generator().manual_seed(0)
    sizes = ((queries, dim), (keys, dim), (keys, dim), (queries, dim), (queries, dim))
    return [
        torch.randn(batch, heads, *size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes
    ]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["none", "given", "diagonal", "mean"])
@pytest.mark.parametrize("shape", SHAPES)
def test_agrees_with_the_materialised_softmax_and_its_gradient(weighted, kind, shape):
    q, k, v, own_key, own_value = (x.requires_grad_() for x in _drawn(shape))
    log_weight = torch.linspace(-1, 2, shape[3], dtype=torch.float64).requires_grad_() if weighted else None
    absent = (torch.arange(shape[2]) % 2 == 1).expand(shape[0], -1)
    logit = (3 * own_key[..., 0]).detach().requires_grad_()
    own = {
        "given": OwnTerm(own_value, logit, absent=absent),
        "diagonal": OwnTerm(own_value, key=own_key, absent=absent),
        "mean": OwnTerm(own_value, key=own_key),
    }.get(kind)
    mean = MeanTerm(own_key[:, :, 0], own_value[:, :, 0], 0.7) if kind == "mean" else None
    want = _plain(q, k, v, log_weight, own, mean)
    inputs = [x for x in (q, k, v, log_weight) if x is not None]
    inputs += {"none": [], "given": [logit, own_value]}.get(kind, [own_key, own_value])

    def merged():
        heads, lse = attend_weighted_with_lse(q, k, v, log_weight)
        return merge_terms(q, heads, lse, own, mean)

    with torch.no_grad():
        torch.testing.assert_close(merged(), want, rtol=1e-9, atol=1e-9)
    got = merged()
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn_like(want)
    for mine, plain in zip(
        torch.autograd.grad(got, inputs, cotangent), torch.autograd.grad(want, inputs, cotangent)
    ):
        torch.testing.assert_close(mine, plain, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("shape", SHAPES)
def test_log_sum_exp_and_its_gradient(shape):
    q, k, v, *_ = (x.requires_grad_() for x in _drawn(shape))
    scores = q @ k.transpose(-1, -2) * 0.3
    want = scores.softmax(-1) @ v, scores.logsumexp(-1)
    got = attend_with_lse(q, k, v, scale=0.3)
    cotangent = [torch.randn_like(x) for x in want]
    for found in (got, attend_in_pieces(q, k, v, 0.3, scores=500)):
        torch.testing.assert_close(found, want, rtol=1e-10, atol=1e-10)
    for mine, plain in zip(
        torch.autograd.grad(got, (q, k, v), cotangent), torch.autograd.grad(want, (q, k, v), cotangent)
    ):
        torch.testing.assert_close(mine, plain, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("products", [True, False])
def test_log_sum_exp_in_bfloat16(monkeypatch, products):
    monkeypatch.setattr(bf16_cpu, "cpu_multiplies_bf16", lambda: products)
    q, k, v, *_ = _drawn((2, 3, 70, 110, 32), torch.bfloat16)
    scores = q.double() @ k.double().transpose(-1, -2) / 32**0.5
    heads, lse = attend_with_lse(q, k, v)
    assert lse.dtype == torch.float32
    torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=0, atol=0.01)
    torch.testing.assert_close(heads.double(), scores.softmax(-1) @ v.double(), rtol=0, atol=0.03)


def test_log_sum_exp_where_a_key_is_far_above_the_guess():
    q, k, v, *_ = _drawn((1, 2, 30, 53, 16), torch.bfloat16)
    _, lse = bf16_cpu.attend_by_products(300 * q, 300 * k, v)
    want = (90_000 * (q.double() @ k.double().transpose(-1, -2)) / 4).logsumexp(-1)
    assert lse.isfinite().all()
    torch.testing.assert_close(lse.double(), want, rtol=0.02, atol=64)


def test_a_key_of_weight_minus_infinity_is_hidden():
    q, k, v = (torch.randn(1, 2, 5, 16, dtype=torch.float64) for _ in range(3))
    weight = torch.zeros(5, dtype=torch.float64)
    weight[3:] = float("-inf")
    torch.testing.assert_close(attend_weighted(q, k, v, weight), attend_weighted(q, k[:, :, :3], v[:, :, :3]))


def test_half_precision_keeps_large_own_logits():
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 1, 64, 32, generator=generator) for _ in range(3))
    logit, value = 20 + torch.randn(1, 1, 64, generator=generator), torch.randn(1, 1, 64, 32)
    k = k * 3 + 20 * q.mean(2, keepdim=True)
    half = [x.bfloat16() for x in (q, k, v)]
    want = _plain(*(x.float() for x in half), None, OwnTerm(value, logit), None)
    got = merge_terms(half[0], *attend_with_lse(*half), OwnTerm(value.bfloat16(), logit))
    assert (got.float() - want).abs().max() < 0.05


@pytest.mark.parametrize("frames_per_chunk", [None, 2])
@pytest.mark.parametrize("by_head", [False, True])
def test_attention_within_a_frame_is_one_term(frames_per_chunk, by_head):
    q, k, v = (torch.randn(2, 3, 5 * 4, 8, dtype=torch.float64) for _ in range(3))
    if not by_head:
        q, k, v = (x.transpose(1, 2).contiguous().transpose(1, 2) for x in (q, k, v))
    own = attend_own_frame(q, k, v, 5, frames_per_chunk)
    frames = [x.unflatten(2, (5, 4)) for x in (q, k, v)]
    scores = frames[0] @ frames[1].transpose(-1, -2) / 8**0.5
    torch.testing.assert_close(own.logit, scores.logsumexp(-1).flatten(2))
    torch.testing.assert_close(own.value, (scores.softmax(-1) @ frames[2]).flatten(2, 3))


def test_pieces_are_merged_as_the_whole(monkeypatch):
    q, shared, lse = torch.randn(2, 3, 20, 8), torch.randn(2, 3, 20, 8), torch.randn(2, 3, 20)
    own = OwnTerm(torch.randn(2, 3, 20, 8), key=torch.randn(2, 3, 20, 8))
    want = merge_terms(q, shared.clone(), lse, own)
    monkeypatch.setattr(terms, "_NUMBERS_CPU", 2 * 3 * 8 * 7)
    torch.testing.assert_close(merge_terms(q, shared, lse, own), want)
