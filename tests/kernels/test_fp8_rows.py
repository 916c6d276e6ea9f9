"""Codes and scales of rows in one pass, code by code as the plain twin has them."""

from __future__ import annotations

import pytest
import torch

from manyview.models.fp8 import quantise


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("shape", [(50, 96), (3, 1), (1, 5000), (0, 16), (7, 128)])
def test_codes_are_those_of_the_plain_twin(triton, dtype, shape):
    from manyview.kernels.fp8_rows import quantise_rows

    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    x[::5] *= torch.logspace(-6, 1, shape[1])  # down to codes below 2^-6
    x[3:4] = 0
    x = x.to(dtype).to(triton)
    codes, scale = quantise_rows(x, 448.0, 1e-12)
    want, scales = quantise(x)
    torch.testing.assert_close(scale, scales, rtol=1e-6, atol=0)
    # A division that rounds otherwise on a card may fall to the other side of a tie.
    others = int((codes.float() != want.float()).sum())
    assert others <= (0 if triton.type == "cpu" else codes.numel() // 1000)
    torch.testing.assert_close(codes.float(), want.float(), rtol=0.13, atol=2**-9)


def test_chosen_kernels_quantise_rows_that_have_strides(triton, calls):
    from manyview.kernels import fp8_rows

    taken = calls(fp8_rows, "quantise_rows")
    x = torch.randn(2, 9, 64, device=triton).to(torch.bfloat16)[:, 2:, :32].reshape(-1, 32)
    wide = torch.randn(9, 64, device=triton)[:, :32]
    for rows in (x, wide):
        codes, scale = quantise(rows, "triton")
        want, scales = quantise(rows)
        torch.testing.assert_close(scale, scales, rtol=1e-6, atol=0)
        others = int((codes.float() != want.float()).sum())  # see above
        assert others <= (0 if triton.type == "cpu" else codes.numel() // 50)
        torch.testing.assert_close(codes.float(), want.float(), rtol=0.13, atol=2**-9)
    assert taken == {"quantise_rows": 2}
