"""Queries and keys from their projection, against float64 with complex numbers."""

from __future__ import annotations

import pytest
import torch

from manyview.models.omega.blocks import RotaryPeriods
from manyview.models.rotary import frame_positions, rotation_for

from .test_row_norm import DTYPES, close, norm64


def turned64(x, cos, sin, tiled):
    """Each pair of channels (first, second) is a complex number times exp(i angle). x: [B, H, N, D]."""
    tokens, dim = x.shape[-2:]
    order = ("axis", "part") if not tiled else ("part", "axis")
    pairs = x.double().unflatten(-1, (2, 2, dim // 4))
    pairs = pairs if order[0] == "part" else pairs.transpose(-3, -2)  # [..., part, axis, quarter]
    number = torch.complex(pairs[..., 0, :, :].contiguous(), pairs[..., 1, :, :].contiguous())
    place = torch.arange(tokens, device=x.device) % len(cos)
    number = number * torch.complex(cos.double(), sin.double())[place]
    pairs = torch.stack([number.real, number.imag], -3)
    return (pairs if order[0] == "part" else pairs.transpose(-3, -2)).flatten(-3)


def angles_of(grid, specials, head_dim, device, tiled=False):
    from manyview.kernels.head_rotate import Angles

    if tiled:
        turn = RotaryPeriods(head_dim, 100.0).to(device).rotation(grid, specials)
    else:
        turn = rotation_for(frame_positions(grid, specials, device), head_dim)
    return Angles(turn.cos, turn.sin, tiled), turn


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("tiled", "heads", "head_dim"), [(False, 5, 12), (True, 2, 16), (False, 1, 64)])
def test_against_float64(triton, dtype, tiled, heads, head_dim):
    from manyview.kernels.head_rotate import qk_norm_rotate

    angles, _ = angles_of((3, 4), 5, head_dim, triton, tiled)
    x = (2 * torch.randn(2, 3 * 17, heads * head_dim, device=triton) + 1).to(dtype)
    weight, bias = torch.randn(2, head_dim, device=triton)
    got = qk_norm_rotate(x, heads, weight, bias, 1e-5, angles)
    assert got.transpose(1, 2).is_contiguous() and got.dtype == dtype  # as the output projection reads
    split = norm64(x.unflatten(-1, (heads, head_dim)).transpose(1, 2), weight, bias, 1e-5)
    close(got, turned64(split, angles.cos, angles.sin, tiled), ulps=2)  # two products to a channel


@pytest.mark.parametrize("tiled", [False, True])
def test_each_step_alone_is_the_models_own(triton, tiled):
    from manyview.kernels.head_rotate import qk_norm_rotate

    angles, turn = angles_of((2, 3), 1, 8, triton, tiled)
    x = torch.randn(1, 2 * 7, 24, device=triton)
    split = x.unflatten(-1, (3, 8)).transpose(1, 2)
    torch.testing.assert_close(qk_norm_rotate(x, 3), split)
    torch.testing.assert_close(qk_norm_rotate(x, 3, angles=angles), turn.apply(split))
    want = torch.nn.functional.layer_norm(split, (8,), eps=1e-5)
    torch.testing.assert_close(qk_norm_rotate(x, 3, eps=1e-5), want)


def test_a_slice_of_a_joint_projection_into_a_part_of_a_tensor(triton):
    from manyview.kernels.head_rotate import qk_norm_rotate

    angles, turn = angles_of((2, 3), 1, 8, triton)
    joint = torch.randn(2, 14, 3 * 16, device=triton)
    out = torch.full((2, 2, 30, 8), 7.0, device=triton)
    keys = joint[..., 16:32]
    qk_norm_rotate(keys, 2, angles=angles, out=out[:, :, 7:21])
    torch.testing.assert_close(out[:, :, 7:21], turn.apply(keys.unflatten(-1, (2, 8)).transpose(1, 2)))
    assert (out[:, :, :7] == 7).all() and (out[:, :, 21:] == 7).all()


def test_no_tokens_and_impossible_widths(triton):
    from manyview.kernels.head_rotate import qk_norm_rotate

    assert qk_norm_rotate(torch.zeros(2, 0, 16, device=triton), 2, eps=1e-5).shape == (2, 2, 0, 8)
    with pytest.raises(ValueError, match="got 6"):
        qk_norm_rotate(torch.zeros(1, 3, 12, device=triton), 2)
