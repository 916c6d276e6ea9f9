"""Dense heads in bf16 and in the memory order of tokens, against float32 as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import manyview
from manyview.evaluate.protocols.procedural import Case
from manyview.models.layers import Conv2d, ConvTranspose2d
from manyview.models.network import Network
from manyview.models.precision import Compute, ConvertedWeights
from manyview.models.run_options import RunOptions
from manyview.models.vggt.model import Predictions
from tests.models.tiny import tiny_vggt

BF16 = torch.bfloat16


@pytest.fixture(scope="module")
def bundled() -> Network:
    return manyview.load()


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    return Case("easy", 3).render(0, (112, 112)).images[0]


def run(model: Network, pictures: Tensor, **options: object) -> Predictions:
    with torch.no_grad():
        return model(pictures, options=RunOptions(**options))


def relative(found: Tensor, wanted: Tensor) -> Tensor:
    return (found - wanted).abs() / wanted.abs()


@pytest.mark.parametrize("channels_last", [False, True])
def test_bf16_heads_stay_within_their_bound(bundled, pictures, channels_last):
    exact = run(bundled, pictures)
    low = run(bundled, pictures, head_dtype=BF16, channels_last=channels_last)
    depth, confidence = relative(low.z_depth, exact.z_depth), relative(low.depth_conf, exact.depth_conf)
    assert low.z_depth.dtype == torch.float32
    assert 0 < depth.median() < 3e-3 and depth.quantile(0.99) < 0.02
    assert confidence.median() < 1e-2 and confidence.quantile(0.99) < 0.1
    assert torch.equal(low.cam_from_world, exact.cam_from_world)  # the camera head stays as it is


def test_the_order_in_memory_changes_nothing(bundled, pictures):
    first, last = (
        run(bundled, pictures, channels_last=way, head_frames_per_chunk=2) for way in (False, True)
    )
    torch.testing.assert_close(last.z_depth, first.z_depth, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(last.depth_conf, first.depth_conf, rtol=1e-4, atol=1e-4)
    assert last.z_depth.is_contiguous()


def test_channels_last_reaches_the_last_convolution():
    model, orders = tiny_vggt(), []
    last = model.depth_head.scratch.output_conv2[2]
    last.register_forward_pre_hook(
        lambda _, given: orders.append(given[0].is_contiguous(memory_format=torch.channels_last))
    )
    images = torch.rand(2, 3, 28, 42)
    for way in (False, True):
        run(model, images, channels_last=way)
    assert orders == [False, True]


@pytest.mark.parametrize("channels_last", [False, True])
def test_convolutions_follow_their_input(channels_last):
    order = torch.channels_last if channels_last else torch.contiguous_format
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64).contiguous(memory_format=order)
    for layer, plain in (
        (Conv2d(8, 4, 3, stride=2, padding=1), torch.nn.Conv2d(8, 4, 3, stride=2, padding=1)),
        (ConvTranspose2d(8, 4, 2, stride=2), torch.nn.ConvTranspose2d(8, 4, 2, stride=2)),
    ):
        plain.load_state_dict(layer.state_dict())
        with torch.no_grad():
            torch.testing.assert_close(layer(x, Compute(weights=ConvertedWeights())), plain.double()(x))
        assert layer.weight.dtype == torch.float32


def test_gradients_flow_through_bf16_heads():
    model = tiny_vggt()
    options = RunOptions(head_dtype=BF16, channels_last=True, heads=("depth",))
    model(torch.rand(2, 3, 28, 42), options=options).z_depth.sum().backward()
    grads = [p.grad for p in model.depth_head.parameters()]
    assert all(g is not None and g.dtype == torch.float32 and bool(g.any()) for g in grads)
