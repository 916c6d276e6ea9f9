"""Attention as products on a CPU against its definition, and where it is taken."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from manyview.attention.softmax import bf16_cpu as cpu_products
from manyview.attention.softmax.bf16_cpu import attend_by_products
from manyview.attention.softmax.sdpa import attend


def tensors(batch=2, heads=3, queries=37, keys=53, dim=32, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = ((queries, dim), (keys, dim), (keys, dim))
    return tuple(torch.randn(batch, heads, *shape).to(dtype) for shape in shapes)


def naive(q, k, v):
    return torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1) @ v


@pytest.mark.parametrize("scores", [1, 37 * 53, 3 * 37 * 53 + 5, 1 << 20])
@pytest.mark.parametrize("queries", [1, 37, 150])
def test_pieces_of_any_size_are_the_definition_in_float64(scores, queries):
    q, k, v = tensors(queries=queries)
    torch.testing.assert_close(attend_by_products(q, k, v, scores=scores)[0], naive(q, k, v))


def test_values_may_be_wider_than_keys_and_inputs_strided():
    q, k, v = tensors()
    v = torch.cat([v, v + 1], -1)
    strided = q.transpose(1, 2).contiguous().transpose(1, 2)
    torch.testing.assert_close(attend_by_products(strided, k, v)[0], naive(q, k, v))


def test_equal_values_come_back():
    q, k, v = tensors(dtype=torch.bfloat16)
    ones, _ = attend_by_products(q, k, torch.ones_like(v))
    assert torch.allclose(ones.float(), torch.tensor(1.0), atol=8e-3)


@pytest.mark.parametrize("size", [1.0, 3.0, 8.0])
def test_error_in_bf16_is_like_the_fused_kernels(size):
    q, k, v = (x.bfloat16().double() for x in tensors(1, 4, 300, 700, 64))
    q = q * size  # logits of up to some 4, 12 or 32
    exact = naive(q, k, v)
    half = [x.bfloat16() for x in (q, k, v)]
    own = (attend_by_products(*half)[0].double() - exact).abs()
    fused = (F.scaled_dot_product_attention(*half).double() - exact).abs()
    assert own.mean() < 3 * fused.mean()
    assert own.max() < 8 * fused.max()
    plain_products = (naive(*(x.bfloat16() for x in (q, k, v))).double() - exact).abs()
    assert own.mean() < plain_products.mean() and own.max() < plain_products.max()


def test_taken_for_bf16_without_gradients_on_cpus_that_multiply_it(monkeypatch):
    taken = []
    monkeypatch.setattr(
        "manyview.attention.softmax.sdpa.attend_by_products",
        lambda *x: taken.append(1) or attend_by_products(*x),
    )
    monkeypatch.setattr(cpu_products, "cpu_multiplies_bf16", lambda: True)
    q, k, v = tensors(dtype=torch.bfloat16)
    attend(q, k, v)
    assert len(taken) == 1
    attend(q.float(), k.float(), v.float())
    attend(q.requires_grad_(), k, v)
    monkeypatch.setattr(cpu_products, "cpu_multiplies_bf16", lambda: False)
    attend(q.detach(), k, v)
    assert len(taken) == 1


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_one_key_far_above_the_guess(dtype):
    q, k, v = tensors(dtype=dtype)
    q, k = q * 300, k * 300  # logits of 10,000, and a guess that misses most queries' largest
    found, _ = attend_by_products(q, k, v)
    assert found.isfinite().all() and found.abs().max() <= 1.01 * v.abs().max()
    if dtype == torch.float64:  # in bf16 such logits are 32 apart or equal
        torch.testing.assert_close(found, naive(q, k, v))
