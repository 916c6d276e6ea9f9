"""One softmax over shared keys, weighted keys and a term of each query, against the equations."""

from __future__ import annotations

import pytest
import torch
from manyview.attention.softmax.extended import attend_extended, same_frame_terms

from manyview.attention.softmax import extended


def _plain(q, k, v, log_weight, self_logit, self_value):
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if log_weight is not None:
        scores = scores + log_weight.expand(*k.shape[:3])[:, :, None]
    if self_logit is None:
        return scores.softmax(-1) @ v
    weights = torch.cat([scores, self_logit[..., None]], -1).softmax(-1)
    return weights[..., :-1] @ v + weights[..., -1:] * self_value


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 8), (2, 3, 7, 11, 32), (1, 2, 300, 400, 12)])
def test_agrees_with_the_materialised_softmax_and_its_gradient(weighted, own, shape):
    batch, heads, queries, keys, dim = shape
    generator = torch.Generator().manual_seed(0)

    def draw(*sizes):
        return torch.randn(*sizes, generator=generator, dtype=torch.float64, requires_grad=True)

    q, k, v = draw(batch, heads, queries, dim), draw(batch, heads, keys, dim), draw(batch, heads, keys, dim)
    log_weight = draw(keys) if weighted else None
    self_logit = 3 * draw(batch, heads, queries) if own else None
    self_value = draw(batch, heads, queries, dim) if own else None
    if self_logit is not None:
        self_logit = self_logit.masked_fill(torch.arange(queries) % 2 == 1, float("-inf"))
    want = _plain(q, k, v, log_weight, self_logit, self_value)
    got = attend_extended(q, k, v, log_weight, self_logit, self_value)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    cotangent = torch.randn(want.shape, generator=generator, dtype=torch.float64)
    inputs = [x for x in (q, k, v, log_weight, self_value) if x is not None]
    for mine, plain in zip(
        torch.autograd.grad(got, inputs, cotangent), torch.autograd.grad(want, inputs, cotangent)
    ):
        torch.testing.assert_close(mine, plain, rtol=1e-7, atol=1e-7)


def test_a_key_of_weight_minus_infinity_is_hidden():
    q, k, v = (torch.randn(1, 2, 5, 16, dtype=torch.float64) for _ in range(3))
    weight = torch.zeros(5, dtype=torch.float64)
    weight[3:] = float("-inf")
    torch.testing.assert_close(attend_extended(q, k, v, weight), attend_extended(q, k[:, :, :3], v[:, :, :3]))


def test_half_precision_keeps_large_own_logits():
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 1, 64, 32, generator=generator) for _ in range(3))
    self_logit, self_value = 20 + torch.randn(1, 1, 64, generator=generator), torch.randn(1, 1, 64, 32)
    k = k * 3 + 20 * q.mean(2, keepdim=True)
    half = [x.bfloat16() for x in (q, k, v)]
    want = _plain(*(x.float() for x in half), None, self_logit, self_value)
    got = attend_extended(*half, None, self_logit, self_value.bfloat16()).float()
    assert (got - want).abs().max() < 0.05


def test_attention_within_a_frame_is_one_term(monkeypatch):
    monkeypatch.setattr(extended, "_SCORES_AT_ONCE", 2 * 6 * 4 * 4)  # two frames at a time
    q, k, v = (torch.randn(2, 3, 5 * 4, 8, dtype=torch.float64) for _ in range(3))
    logit, value = same_frame_terms(q, k, v, 5)
    frames = [x.unflatten(2, (5, 4)) for x in (q, k, v)]
    scores = frames[0] @ frames[1].transpose(-1, -2) / 8**0.5
    torch.testing.assert_close(logit, scores.logsumexp(-1).flatten(2))
    torch.testing.assert_close(value, (scores.softmax(-1) @ frames[2]).flatten(2, 3))
