"""Layer norm of rows and the residual sum before it, against float64."""

from __future__ import annotations

import pytest
import torch

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def norm64(x, weight, bias, eps):
    """(x - mean) / sqrt(variance + eps) * weight + bias, straight."""
    x = x.double()
    centred = x - x.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    y = y if weight is None else y * weight.double()
    return y if bias is None else y + bias.double()


def close(got, want, ulps=1):
    """Within `ulps` roundings of the stored type, 64 in float32 (sums over a row)."""
    eps = torch.finfo(got.dtype).eps * (64 if got.dtype == torch.float32 else ulps)
    torch.testing.assert_close(got.double(), want, rtol=eps, atol=eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 5, 33), (1, 7, 8), (3, 64), (2, 2, 9, 48), (1, 3, 5000), (1, 1, 1)])
def test_layer_norm_against_float64(triton, dtype, shape):
    from manyview.kernels.row_norm import layer_norm

    x = (3 * torch.randn(shape, device=triton) + 2).to(dtype)
    weight, bias = torch.randn(2, shape[-1], device=triton)
    close(layer_norm(x, weight, bias, 1e-5), norm64(x, weight, bias, 1e-5))
    close(layer_norm(x, None, None, 1e-6), norm64(x, None, None, 1e-6))


def test_layer_norm_reads_any_strides(triton):
    from manyview.kernels.row_norm import layer_norm

    whole = torch.randn(3, 9, 40, device=triton)
    for x in (whole[:, 2:7], whole[..., 4:36], whole.transpose(1, 2), whole[::2, ::3], whole.movedim(0, 2)):
        got = layer_norm(x, None, None, 1e-5)
        assert got.is_contiguous()
        close(got, norm64(x, None, None, 1e-5))


@pytest.mark.parametrize("shape", [(0, 4, 8), (2, 0, 8)])
def test_no_rows_are_no_rows(triton, shape):
    from manyview.kernels.row_norm import add_scaled_norm, layer_norm

    x = torch.zeros(shape, device=triton)
    assert layer_norm(x, None, None, 1e-5).shape == shape
    assert add_scaled_norm(x, x.clone(), None, None, None, 1e-5).shape == shape


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scales", [True, False])
@pytest.mark.parametrize("shape", [(2, 5, 33), (1, 21, 64)])
def test_residual_sum_and_norm_against_float64(triton, dtype, scales, shape):
    from manyview.kernels.row_norm import add_scaled_norm

    x, branch = torch.randn(2, *shape, device=triton).to(dtype)
    gamma, weight, bias = torch.randn(3, shape[-1], device=triton)
    gamma = gamma if scales else None
    total = x.double() + branch.double() * (1 if gamma is None else gamma.double())
    y = add_scaled_norm(x, branch, gamma, weight, bias, 1e-5)
    close(x, total)
    close(y, norm64(x, weight, bias, 1e-5))  # of what was stored, as the plain norm reads it


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_added_later_is_not_in_the_norm(triton, dtype):
    from manyview.kernels.row_norm import add_scaled_norm

    x, branch = torch.randn(2, 2, 5, 33, device=triton).to(dtype)
    later = torch.randn(33, device=triton)
    total = x.double() + branch.double()
    plain = x.clone()
    wanted = add_scaled_norm(plain, branch, None, None, None, 1e-5)
    assert torch.equal(add_scaled_norm(x, branch, None, None, None, 1e-5, later), wanted)
    close(x, total + later.double(), ulps=2)


def test_residual_sum_writes_only_its_rows(triton):
    from manyview.kernels.row_norm import add_scaled_norm

    whole, branch = torch.randn(2, 3, 9, 24, device=triton)
    before = whole.clone()
    add_scaled_norm(whole[1:, 2:7], branch[1:, 3:8], None, None, None, 1e-5)
    before[1:, 2:7] += branch[1:, 3:8]
    torch.testing.assert_close(whole, before)
