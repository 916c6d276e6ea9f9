"""Terms of a softmax merged in one pass over the tokens."""

from __future__ import annotations

import pytest
import torch

from manyview.attention.softmax.terms import MeanTerm, OwnTerm, merge_terms

pytest.importorskip("triton")

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def twin(q, shared, lse, own=None, mean=None):
    """The softmax over the terms written out in float64."""
    scale = q.shape[-1] ** -0.5
    logits, values = [lse.double()], [shared.double()]
    if own is not None:
        logit = own.logit if own.key is None else (q.double() * own.key.double()).sum(-1) * scale
        if own.absent is not None:
            logit = logit.masked_fill(own.absent[:, None], float("-inf"))
        logits, values = [*logits, logit.double()], [*values, own.value.double()]
    if mean is not None:
        logit = (q.double() * mean.key.double()[:, :, None]).sum(-1) * scale + mean.log_weight
        logits, values = [*logits, logit], [*values, mean.value.double()[:, :, None].expand_as(q)]
    shares = torch.stack(logits).softmax(0)
    return (shares[..., None] * torch.stack(values)).sum(0)


def inputs(device, dtype, tokens=70, dim=64, batch=2, heads=3, by_head=False):
    """Queries, shared outputs, their log-sum-exp, and every kind of term."""
    torch.manual_seed(tokens + dim)
    shape = (batch, heads, tokens, dim) if by_head else (batch, tokens, heads, dim)
    drawn = [torch.randn(shape, device=device).to(dtype) for _ in range(4)]
    q, shared, key, value = drawn if by_head else [x.transpose(1, 2) for x in drawn]
    lse, logit = 2 * torch.randn(2, batch, heads, tokens, device=device)
    absent = torch.arange(tokens, device=device).expand(batch, -1) % 3 == 0
    terms = {
        "own": OwnTerm(value, logit),
        "own, some absent": OwnTerm(value, logit, absent=absent),
        "diagonal": OwnTerm(value, key=key, absent=absent),
        None: None,
    }
    mean = MeanTerm(*torch.randn(2, batch, heads, dim, device=device), 1.5)
    return q, shared, lse, terms, mean


CASES = [(name, mean) for name in ("own", "own, some absent", "diagonal", None) for mean in (True, False)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, with_mean", CASES[:-1])
@pytest.mark.parametrize("by_head", [True, False])
def test_against_float64(triton, calls, dtype, name, with_mean, by_head):
    from manyview.kernels import merge_terms as kernel

    taken = calls(kernel, "merge_terms")
    q, shared, lse, terms, mean = inputs(triton, dtype, by_head=by_head)
    own, mean = terms[name], mean if with_mean else None
    want = twin(q, shared, lse, own, mean)
    plain = merge_terms(q, shared.clone(), lse, own, mean)
    got = merge_terms(q, shared, lse, own, mean, kernels="norms")
    assert taken == {"merge_terms": 1} and got.dtype == dtype
    assert got.transpose(1, 2).is_contiguous()  # as the output projection reads it
    assert by_head or got.data_ptr() == shared.data_ptr()
    eps = torch.finfo(dtype).eps
    for found in (got, plain):
        torch.testing.assert_close(found.double(), want, rtol=2 * eps, atol=4 * eps)


@pytest.mark.parametrize("tokens, dim", [(1, 8), (64, 32), (130, 24), (65, 128)])
def test_any_number_of_tokens_and_channels(triton, tokens, dim):
    q, shared, lse, terms, mean = inputs(triton, torch.float32, tokens, dim)
    want = twin(q, shared, lse, terms["diagonal"], mean)
    got = merge_terms(q, shared, lse, terms["diagonal"], mean, kernels="norms")
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_equal_values_stay_what_they_are(triton):
    q, _, lse, terms, mean = inputs(triton, torch.float32)
    ones = torch.ones_like(q)
    own, mean = OwnTerm(ones, terms["own"].logit), MeanTerm(mean.key, ones[:, :, 0], 2.0)
    got = merge_terms(q, ones.clone(), lse, own, mean, kernels="norms")
    torch.testing.assert_close(got, ones, rtol=1e-6, atol=1e-6)


def test_large_logits_do_not_overflow(triton):
    q, shared, lse, terms, mean = inputs(triton, torch.float32)
    own, lse = OwnTerm(terms["own"].value, 1000 * terms["own"].logit), 1000 * lse
    want = twin(q, shared, lse, own, mean)
    got = merge_terms(q, shared, lse, own, mean, kernels="norms")
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


def test_strided_logits_and_masks_are_read_in_place(triton):
    """As a frame's attention and a widened log-sum-exp leave them."""
    q, shared, lse, terms, mean = inputs(triton, torch.float32)
    own = terms["own, some absent"]
    wide = torch.nn.functional.pad(lse, (0, 26))[..., :70]
    across = own.logit.transpose(1, 2).contiguous().transpose(1, 2)
    one = OwnTerm(own.value, across, absent=own.absent[:1].expand(2, -1))
    want = twin(q, shared, lse, own, mean)
    got = merge_terms(q, shared, wide, one, mean, kernels="norms")
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_and_float64_take_the_plain_operations(triton, calls, dtype):
    from manyview.kernels import merge_terms as kernel

    taken = calls(kernel, "merge_terms")
    q, shared, lse, terms, mean = inputs(triton, dtype)
    if dtype == torch.float32:
        q.requires_grad_()
    with torch.enable_grad():
        got = merge_terms(q, shared, lse.to(dtype), terms["diagonal"], mean, kernels="norms")
    assert not taken and got.requires_grad == q.requires_grad
