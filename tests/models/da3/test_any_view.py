"""The any-view networks: order of views, reference, precision, plans, memory, operations."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.bench.live_bytes import LiveBytes
from manyview.errors import UsageError
from manyview.models.da3.backbone import CameraTokens
from manyview.models.da3.config import DA3_BASE, DA3_GIANT, DA3_LARGE, DA3_SMALL
from manyview.models.da3.model import DA3
from manyview.models.da3.reference_view import reference_first, reference_view
from manyview.models.flops import forward_flops
from manyview.models.run_options import RunOptions
from manyview.reconstruction.plan.footprint import estimate_peak_bytes
from tests.models.test_flops import counting
from tests.models.tiny import tiny_vggt

from .tiny_da3 import GIANT, SMALL, tiny_da3

HEADS = ("camera", "depth", "rays")


def _images(frames=5, batch=1):
    generator = torch.Generator().manual_seed(5)
    return torch.rand(batch, frames, 3, 28, 42, generator=generator, dtype=torch.float64)


def _run(model, images, plan="dense", recorder=None, **options):
    options = {"heads": HEADS} | options
    with torch.no_grad():
        return model(images, Plan.parse(plan, model.config.depth), RunOptions(**options), recorder)


class Tokens:
    """Keeps the tokens and the keys of the last global layer."""

    def global_tokens(self, layer, tokens):
        self.tokens = tokens.clone()

    def global_attention(self, layer, q, k):
        self.q, self.k = q.clone(), k.clone()


@pytest.mark.parametrize("rule", ["saddle_balanced", "middle"])
def test_everything_comes_in_the_order_of_the_input(rule):
    model, images = tiny_da3().double(), torch.cat([_images(), _images().flip(1)])
    tokens = CameraTokens(model.transformer.camera_token, reference=rule)
    with torch.no_grad():
        model.predict(images, Plan.dense(4), RunOptions(), tokens)
    views = tokens.order.views
    assert (views[:, 0] != 0).all() and views.sort(1).values.tolist() == [list(range(5))] * 2
    rows, back = torch.arange(2)[:, None], views.argsort(1)
    chosen, by_hand = Tokens(), Tokens()
    found = _run(model, images, recorder=chosen, reference_view=rule)
    moved = _run(model, images[rows, views], recorder=by_hand, reference_view="first")
    for name in ("z_depth", "depth_conf", "rays", "rays_conf", "intrinsics", "world_from_cam"):
        torch.testing.assert_close(getattr(found, name), getattr(moved, name)[rows, back])
    torch.testing.assert_close(chosen.tokens, by_hand.tokens[rows, back])
    for name in ("q", "k"):
        first, second = (getattr(x, name).unflatten(2, (5, -1)).transpose(1, 2) for x in (chosen, by_hand))
        torch.testing.assert_close(first, second[rows, back])
    eye = torch.eye(3, 4, dtype=torch.float64).expand(2, 3, 4)
    torch.testing.assert_close(found.cam_from_world[:, 0], eye)  # the world is the first view's camera
    other = _run(model, images, reference_view="first")
    assert not torch.allclose(other.z_depth, found.z_depth)


def test_the_reference_view_is_chosen_from_three_views_on():
    tokens = torch.randn(1, 2, 8)
    assert reference_first(tokens, "middle").views is None
    assert reference_first(torch.randn(1, 3, 8), "middle").views.tolist() == [[1, 0, 2]]
    with pytest.raises(ValueError, match="nearest"):
        reference_view(tokens, "nearest")
    with pytest.raises(ValueError, match="nearest"):
        RunOptions(reference_view="nearest")


def test_networks_without_a_choice_refuse_one():
    with pytest.raises(UsageError, match="first"):
        tiny_vggt()(_images().float(), options=RunOptions(reference_view="first"))
    with pytest.raises(UsageError, match="middle"):
        _run(tiny_da3().double(), _images(), "anchors:frames=2", reference_view="middle")


PIECES = {"frames_per_chunk": 2, "mlp_tokens_per_chunk": 9, "head_frames_per_chunk": 1}


@pytest.mark.parametrize("config", [SMALL, GIANT], ids=["small", "giant"])
def test_pieces_and_gradients_change_rounding_alone(config):
    model, images = tiny_da3(config).double(), _images()
    whole, pieces = _run(model, images), _run(model, images, **PIECES)
    with torch.enable_grad():
        learnt = model(images, options=RunOptions(heads=HEADS))
    learnt.z_depth.mean().backward()
    assert model.transformer.block(0).mlp is not None and model.transformer.cls_token.grad.abs().sum() > 0
    for name in ("z_depth", "depth_conf", "rays", "cam_from_world", "intrinsics"):
        torch.testing.assert_close(getattr(whole, name), getattr(pieces, name))
        torch.testing.assert_close(getattr(whole, name), getattr(learnt, name))


@pytest.mark.parametrize(
    "plan", ["frame", "avggt:stride=2x2", "flash:r=2", "fastvggt", "httm:space=2,time=2", "anchors:frames=2"]
)
@pytest.mark.parametrize("config", [SMALL, GIANT], ids=["small", "giant"])
def test_plans_run_on_the_global_blocks(plan, config):
    model, images = tiny_da3(config), _images().float()
    dense, found = _run(model, images), _run(model, images, plan)
    assert found.z_depth.isfinite().all() and not torch.equal(found.z_depth, dense.z_depth)


def test_anchors_that_are_all_frames_are_dense_attention_from_the_first_view():
    model, images = tiny_da3().double(), _images()
    dense = _run(model, images, reference_view="first")
    anchors = _run(model, images, "anchors:frames=5")
    torch.testing.assert_close(anchors.z_depth, dense.z_depth)
    torch.testing.assert_close(anchors.cam_from_world, dense.cam_from_world)


def test_cameras_may_come_from_the_rays():
    model, images = tiny_da3().double(), _images()
    found = _run(model, images, heads=("camera", "depth"), camera_from_rays=True)
    assert found.rays is not None and found.pose_encoding_list is None
    assert not torch.allclose(found.intrinsics, _run(model, images).intrinsics)
    eye = torch.eye(3, 4, dtype=torch.float64)
    torch.testing.assert_close(found.cam_from_world[0, 0], eye, rtol=1e-4, atol=1e-4)
    with pytest.raises(UsageError, match="rays"):
        tiny_vggt()(images.float(), options=RunOptions(camera_from_rays=True))


def test_bfloat16_is_near():
    model, images = tiny_da3(), _images().float()
    plain, half = _run(model, images), _run(model, images, dtype=torch.bfloat16)
    assert half.z_depth.dtype == torch.float32
    assert ((half.z_depth / plain.z_depth).log().abs().median()) < 0.05


@pytest.mark.parametrize("heads", [("camera", "depth"), ("depth",), ("camera", "rays"), HEADS])
@pytest.mark.parametrize("config", [SMALL, GIANT], ids=["small", "giant"])
def test_operations_equal_a_counted_run(heads, config):
    model, images = tiny_da3(config), _images(3).float()
    layout = TokenLayout(3, 1, (2, 3))
    expected = forward_flops(config, layout, Plan.dense(config.depth), heads)
    with counting() as stages:
        model(images, options=RunOptions(heads=heads, reference_view="first"), recorder=stages)
    found = {name: flops for name, flops in stages.flops.items() if flops}
    # The small matrices of camera poses are not counted as a network's operations.
    camera = found.pop("camera head", 0)
    assert camera == pytest.approx(expected.pop("camera head", 0), rel=0.1)
    depth = {name: expected.pop(name) for name in ("depth head", "rays head") if name in expected}
    assert sum(found.pop(name, 0) for name in ("depth head", "rays head")) == sum(depth.values())
    assert found == expected


def test_named_sizes_have_the_published_numbers_of_parameters():
    for config, millions in ((DA3_SMALL, 34.3), (DA3_BASE, 135.4), (DA3_LARGE, 410.9), (DA3_GIANT, 1320.1)):
        with torch.device("meta"):
            model = DA3(config)
        assert sum(p.numel() for p in model.parameters()) == pytest.approx(millions * 1e6, abs=6e4)
    assert [config.depth for config in (DA3_SMALL, DA3_BASE, DA3_LARGE, DA3_GIANT)] == [4, 4, 8, 14]


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("pieces", [(None, None, None), (8, 9000, 4)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("public", [DA3_BASE, DA3_GIANT], ids=["base", "giant"])
def test_memory_estimate_is_near_and_not_below_counted_bytes(pieces, dtype, public):
    first = 4 + public.alternating_from % 2
    config = dataclasses.replace(
        public, dim=384, num_heads=6, layers=8, alternating_from=first, taps=(5, 5, 7, 7)
    )
    with torch.device("meta"):
        model = DA3(config)
        images = torch.empty(1, 24, 3, 140, 196, dtype=torch.uint8)
    options = RunOptions(dtype, *pieces)
    with torch.no_grad(), LiveBytes() as live:
        model(images, options=options)
    counted = live.peak + images.numel()
    estimate = estimate_peak_bytes(config, config.layout(24, 140, 196), options, dtype.itemsize)
    assert counted <= estimate <= 1.5 * counted
