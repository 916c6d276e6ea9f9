"""Whole networks with fused kernels give what they give with plain operations."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.blocks import Attention
from manyview.models.omega.blocks import TiledRotation, omega_block
from manyview.models.part_configs import EncoderConfig
from manyview.models.precision import Compute
from manyview.models.rotary import frame_positions, rotation_for
from manyview.models.run_options import RunOptions
from tests.models.da3.tiny_da3 import GIANT, tiny_da3
from tests.models.tiny import TINY, tiny_vggt
from tests.models.tiny_pi3 import tiny_pi3

PLAIN, FUSED = (RunOptions(kernels=name) for name in ("plain", "triton"))
SMALL = dataclasses.replace(TINY, depth=2, taps=(0, 0, 1, 1), encoder=EncoderConfig(1, 2, 4))


@pytest.fixture
def count(calls):
    """How often the kernel modules' functions are called, by name."""
    from manyview.kernels import head_rotate, row_norm

    calls(head_rotate, "qk_norm_rotate")
    return calls(row_norm, "layer_norm", "add_scaled_norm")


def both(model, images, spec="dense", **changes):
    plan = Plan.parse(spec, model.config.depth)
    images = images.to(next(model.parameters()).device)
    with torch.no_grad():
        return [model(images, plan, dataclasses.replace(options, **changes)) for options in (PLAIN, FUSED)]


def same(found, wanted, tolerance=1e-4):
    for name in ("cam_from_world", "z_depth", "depth_conf"):
        torch.testing.assert_close(
            getattr(found, name), getattr(wanted, name), rtol=tolerance, atol=tolerance
        )


@pytest.mark.parametrize(
    ("spec", "pieces"),
    [
        ("dense", {}),
        ("dense", {"frames_per_chunk": 1, "mlp_tokens_per_chunk": 13}),
        ("avggt:early=1,stride=2x2", {}),
        ("httm:space=6,time=1", {}),
        ("anchors:frames=1", {"frames_per_chunk": 1, "mlp_tokens_per_chunk": 13}),
    ],
)
def test_vggt(device, count, spec, pieces):
    model = tiny_vggt(config=SMALL).to(device)
    wanted, found = both(model, torch.rand(2, 3, 28, 42), spec, **pieces)
    same(found, wanted)
    assert count["qk_norm_rotate"] >= 4 and count["add_scaled_norm"] >= 4


@pytest.mark.parametrize("piece", [None, 7])
def test_heads_lie_as_the_output_projection_reads_them(triton, piece):
    attention = Attention(32, 2, qk_norm=True).to(triton)
    turn = rotation_for(frame_positions((2, 3), 1, triton), 16)
    x = torch.randn(1, 14, 32, device=triton)
    q = attention.queries(x, turn, piece, Compute("norms"))
    k, v = attention.keys_values(x, turn, piece, Compute("norms"))
    assert all(one.transpose(1, 2).is_contiguous() for one in (q, k, v))


def test_a_pass_that_keeps_no_weights_sums_apart(device, count):
    model = tiny_vggt(config=SMALL).to(device)
    wanted, found = both(model, torch.rand(2, 3, 28, 42), mlp_tokens_per_chunk=13, keep_weights=False)
    same(found, wanted)
    assert count["add_scaled_norm"] >= 4


def test_depth_anything(device, count):
    wanted, found = both(tiny_da3(GIANT).to(device), torch.rand(2, 3, 14, 28))
    same(found, wanted)
    assert count["qk_norm_rotate"] and count["add_scaled_norm"]


def test_pi3_and_its_blocks_without_scale(device, count):
    wanted, found = both(tiny_pi3().to(device), torch.rand(2, 3, 28, 42))
    same(found, wanted)
    assert count["qk_norm_rotate"] and count["add_scaled_norm"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_of_omega(triton, count, dtype):
    torch.manual_seed(0)
    block = omega_block(32, 2, 2.0, qk_norm=True).to(triton)
    turn = TiledRotation(*torch.randn(2, 7, 2, 4, device=triton))
    x = torch.randn(2, 14, 32, device=triton, dtype=dtype)
    found = block(x.clone(), turn, inplace=True, compute=Compute("triton"))
    assert count == {"qk_norm_rotate": 2, "layer_norm": 1, "add_scaled_norm": 1}
    wanted = block.double()(x.double(), turn)
    eps = 8 * torch.finfo(dtype).eps if dtype == torch.bfloat16 else 1e-5
    torch.testing.assert_close(found.double(), wanted, rtol=eps, atol=eps)


def test_low_precision_is_no_further_from_exact_than_plain(device):
    model = tiny_vggt(config=SMALL).to(device)
    images = torch.rand(2, 3, 28, 28)
    plain, found = both(model, images, dtype=torch.bfloat16)
    exact, _ = both(model.double(), images.double())
    errors = [(one.z_depth.double() - exact.z_depth).abs().mean() for one in (found, plain)]
    assert errors[0] < 1.5 * errors[1]


def test_double_precision_and_gradients_run_plain(device, count):
    model = tiny_vggt(torch.float64, SMALL).to(device)
    wanted, found = both(model, torch.rand(1, 3, 28, 28, dtype=torch.float64))
    assert torch.equal(found.z_depth, wanted.z_depth)
    model = tiny_vggt(config=SMALL).to(device)
    depth = model(torch.rand(1, 3, 28, 28, device=device), options=FUSED).z_depth
    depth.sum().backward()
    weight = model.aggregator.frame_blocks[0].attn.q_norm.weight
    assert weight.grad is not None and weight.grad.abs().max() > 0
    assert not count


def test_other_doors_into_the_trunk_take_the_choice(device, count):
    model = tiny_vggt(config=SMALL).to(device)
    images = torch.rand(1, 1, 3, 28, 28, device=device)
    with torch.no_grad():
        model.run_chunk(images, Plan.dense(2), FUSED, True)
        calls = count.pop("layer_norm")
        model.aggregator.frame_features(images, FUSED)
    assert calls and count["layer_norm"]


def test_options_refuse_what_cannot_be(monkeypatch):
    with pytest.raises(ValueError, match="'cuda'"):
        RunOptions(kernels="cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UsageError, match=r"cpu|triton package"):
        tiny_vggt(config=SMALL)(torch.rand(1, 3, 28, 28), options=FUSED)


def test_networks_import_without_triton():
    code = "import sys; sys.modules['triton'] = None; import manyview, manyview.models.network"
    subprocess.run([sys.executable, "-c", code], check=True)
