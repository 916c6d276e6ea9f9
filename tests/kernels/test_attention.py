"""Attention from terms of each query's own, weighted keys and heads of different lengths, in one kernel."""

from __future__ import annotations

import functools

import pytest
import torch
from manyview.attention.softmax.extended import attend_extended

pytest.importorskip("triton")

NEVER = float("-inf")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def twin(q, k, v, log_weight=None, own_logit=None, own_value=None, lengths=None):
    """The softmax written out in float64."""
    q, k, v = q.double(), k.double(), v.double()
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if log_weight is not None:
        scores = scores + log_weight.double().expand(*k.shape[:3])[:, :, None]
    if own_logit is not None:
        scores = torch.cat([scores, own_logit.double()[..., None]], -1)
        v = torch.cat(
            [v[:, :, None].expand(-1, -1, q.shape[2], -1, -1), own_value.double()[:, :, :, None]], 3
        )
        out = (scores.softmax(-1)[..., None] * v).sum(3)
    else:
        out = scores.softmax(-1) @ v
    if lengths is not None:
        out = out * (torch.arange(q.shape[2], device=q.device) < lengths[..., None])[..., None]
    return out


def drawn(device, dtype, *sizes):
    return torch.randn(*sizes, device=device).to(dtype)


def inputs(device, dtype, queries, keys, dim, batch=2, heads=2):
    torch.manual_seed(queries + keys + dim)
    q, own = (drawn(device, dtype, batch, heads, queries, dim) for _ in range(2))
    k, v = (drawn(device, dtype, batch, heads, keys, dim) for _ in range(2))
    weight = 2 * torch.randn(batch, 1, keys, device=device)
    logit = 2 * torch.randn(batch, heads, queries, device=device)
    lengths = torch.randint(0, queries + 1, (batch, heads), device=device)
    weight[..., :: max(2, keys // 3)] = NEVER
    logit[..., ::3] = NEVER
    return q, k, v, weight, logit, own, lengths


SIZES = [(1, 1, 32), (140, 70, 64), (20, 129, 128), (64, 64, 16)]
CASES = [(dtype, sizes, "all") for dtype in DTYPES for sizes in SIZES]
CASES += [(torch.bfloat16, (20, 70, 64), terms) for terms in ("weight", "own", "lengths")]

attend_fused = functools.partial(attend_extended, kernels="triton")


@pytest.mark.parametrize("dtype, sizes, terms", CASES)
def test_against_float64_and_the_plain_path(triton, calls, dtype, sizes, terms):
    from manyview.kernels import attention as kernel

    taken = calls(kernel, "attend_terms")
    q, k, v, weight, logit, own, lengths = inputs(triton, dtype, *sizes)
    if sizes[1] < 3:
        weight = torch.zeros_like(weight)
    several = {
        "weight": (weight,),
        "own": (None, logit, own),
        "lengths": (None, None, None, lengths),
        "all": (weight, logit, own, lengths),
    }[terms]
    got, want = attend_fused(q, k, v, *several), twin(q, k, v, *several)
    assert taken == {"attend_terms": 1} and got.dtype == dtype
    error = (got.double() - want).square().mean().sqrt()
    whole = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    usual = (whole.double() - twin(q, k, v)).square().mean().sqrt()
    floor = torch.finfo(dtype).eps / 4 * want.square().mean().sqrt()  # one rounding of the output
    assert error <= 2 * max(usual, floor)


@pytest.mark.parametrize("terms", [(), ("weight",), ("own",)])
def test_the_plain_path_is_its_twin(triton, terms):
    q, k, v, weight, logit, own, lengths = inputs(triton, torch.float32, 90, 75, 32)
    several = (
        weight if "weight" in terms else None,
        *((logit, own) if "own" in terms else (None, None)),
        lengths,
    )
    got = attend_fused(q, k, v, *several)
    want = attend_extended(q, k, v, *several)
    live = (torch.arange(90, device=triton) < lengths[..., None])[..., None]
    torch.testing.assert_close(got, want * live, rtol=1e-5, atol=1e-5)


def test_equal_values_stay_what_they_are(triton):
    q, k, v, weight, logit, own, _ = inputs(triton, torch.float32, 70, 100, 64)
    got = attend_fused(q, k, torch.ones_like(v), weight, logit, torch.ones_like(own))
    torch.testing.assert_close(got, torch.ones_like(got), rtol=1e-6, atol=1e-6)


def test_hidden_keys_are_as_if_absent_and_their_values_never_count(triton):
    q, k, v, _, logit, own, _ = inputs(triton, torch.float32, 40, 100, 32)
    weight = torch.zeros(100, device=triton)
    weight[60:] = NEVER
    v = v.clone()
    v[:, :, 60:] = 1e30
    want = attend_fused(q, k[:, :, :60], v[:, :, :60], None, logit, own)
    torch.testing.assert_close(attend_fused(q, k, v, weight, logit, own), want, rtol=1e-6, atol=1e-6)


def test_where_all_keys_are_hidden_the_own_value_is_the_answer(triton):
    q, k, v, _, logit, own, _ = inputs(triton, torch.float32, 40, 70, 32)
    hidden = torch.full((70,), NEVER, device=triton)
    got = attend_fused(q, k, v, hidden, logit.clamp(min=-9), own)
    torch.testing.assert_close(got, own, rtol=1e-6, atol=1e-6)


def test_without_keys_only_the_own_term_is_left(triton):
    from manyview.kernels.attention import attend_terms

    q, k, v, _, logit, own, _ = inputs(triton, torch.float32, 20, 5, 32)
    none = torch.zeros(2, 2, dtype=torch.long, device=triton)
    torch.testing.assert_close(attend_terms(q, k, v, None, logit, own, None, none), own)


def test_each_head_sees_its_own_number_of_keys(triton):
    from manyview.kernels.attention import attend_terms

    q, k, v, *_ = inputs(triton, torch.float32, 20, 140, 32)
    seen = torch.tensor([[1, 140], [64, 65]], device=triton)
    got = attend_terms(q, k, v, key_lengths=seen)
    for b, h in ((0, 0), (0, 1), (1, 0), (1, 1)):
        many = seen[b, h]
        one = slice(h, h + 1)
        want = twin(q[b : b + 1, one], k[b : b + 1, one, :many], v[b : b + 1, one, :many])
        torch.testing.assert_close(got[b, h].double(), want[0, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_large_logits_do_not_overflow(triton, dtype):
    q, k, v, weight, logit, own, _ = inputs(triton, dtype, 40, 70, 64)
    got = attend_fused(40 * q, 40 * k, v, weight, 1000 * logit, own)
    want = twin(40 * q, 40 * k, v, weight, 1000 * logit, own)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(got.double(), want, rtol=4 * eps, atol=max(4 * eps, 2e-3))


def test_the_order_of_keys_does_not_matter(triton):
    q, k, v, weight, logit, own, _ = inputs(triton, torch.float32, 40, 130, 32)
    order = torch.randperm(130, device=triton)
    want = attend_fused(q, k, v, weight, logit, own)
    got = attend_fused(q, k[:, :, order], v[:, :, order], weight[..., order], logit, own)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


def test_strided_inputs_are_read_in_place(triton):
    """Heads cut from one projection, as models hand them over; outputs as the projection reads them."""
    torch.manual_seed(0)
    whole = torch.randn(2, 50, 3, 2, 32, device=triton)
    q, k, v = (whole[:, :, i].transpose(1, 2) for i in range(3))
    weight = torch.randn(2, 2, 100, device=triton)[..., ::2]
    got = attend_fused(q, k, v, weight)
    torch.testing.assert_close(got.double(), twin(q, k, v, weight), rtol=1e-5, atol=1e-5)
    assert got.transpose(1, 2).is_contiguous()
    last = q.transpose(2, 3).contiguous().transpose(2, 3)
    torch.testing.assert_close(attend_fused(last, k, v, weight), got)


@pytest.mark.parametrize("dim, dtype", [(24, torch.float32), (32, torch.float64)])
def test_what_the_kernel_does_not_know_takes_the_plain_operations(triton, dim, dtype):
    q, k, v, weight, logit, own, _ = inputs(triton, dtype, 20, 30, dim)
    want = twin(q, k, v, weight, logit, own)
    got = attend_fused(q, k, v, weight, logit, own)
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_without_terms_pytorchs_own_attention_stays(triton, monkeypatch):
    from manyview.kernels import attention as kernel

    monkeypatch.setattr(kernel, "attend_terms", lambda *a: pytest.fail("the kernel ran"))
    q, k, v, *_ = inputs(triton, torch.float32, 20, 30, 32)
    torch.testing.assert_close(attend_fused(q, k, v).double(), twin(q, k, v), rtol=1e-5, atol=1e-5)
