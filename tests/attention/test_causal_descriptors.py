"""Descriptors under a frame-causal mask: against materialised masks, and against streaming frame by frame."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
import torch.nn.functional as F

from manyview.attention.causal_descriptor_keys import CausalDescriptorKeys
from manyview.attention.dense import SameFrameKeys
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.methods.flashvggt import DescriptorKeys, FlashVggt
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun
from manyview.errors import UsageError
from manyview.streaming.recursive import RecursiveEngine, RecursiveOptions
from tests.models.tiny import tiny_vggt

from .settings import LAYOUTS, small_layer

EXACT = {"rtol": 1e-6, "atol": 1e-6}  # bilinear weights are single precision in the method


def reference(keys: CausalDescriptorKeys, attention, tokens, layout, rotation):
    """Every frame's own list of keys, straight from the text: self, kept past frames, frame 0 whole."""
    short = keys
    specials, (rows, columns) = layout.special_tokens, layout.grid
    h, w = max(1, rows // short.reduction), max(1, columns // short.reduction)
    at = [*range(specials)]
    at += [specials + i * rows // h * columns + j * columns // w for i in range(h) for j in range(w)]
    frames = tokens.unflatten(1, (layout.frames, -1))
    patches = frames[:, :, specials:].flatten(0, 1).unflatten(1, layout.grid).permute(0, 3, 1, 2)
    small = F.interpolate(patches, (h, w), mode=short.resample).flatten(2).transpose(1, 2)
    small = small.unflatten(0, (len(tokens), layout.frames))
    whole = layout.reference_frame is not None and not keys.hide_reference
    result = []
    for t in range(layout.frames):
        k, v, weight = [], [], []
        for s in range(t + 1):
            if s < t and s % keys.keep_one_in:
                continue
            vectors = torch.cat([frames[:, s, :specials], small[:, s]], 1)
            pair = attention.keys_values(vectors, rotation.select(torch.tensor(at)))
            k.append(pair[0])
            v.append(pair[1])
            gain = short.count_bias * math.log(rows * columns / (h * w))
            if s == 0 and whole and not short.duplicates:
                gain = -math.inf
            weight += [0.0] * specials + [gain] * (h * w)
        if whole:
            index = torch.arange(specials, layout.tokens_per_frame)
            pair = attention.keys_values(frames[:, 0, specials:], rotation.select(index))
            k.append(pair[0])
            v.append(pair[1])
            weight += [0.0] * layout.patches_per_frame
        q = attention.queries(frames[:, t], rotation)
        scores = q @ torch.cat(k, 2).transpose(-1, -2) / q.shape[-1] ** 0.5 + torch.tensor(weight)
        result.append(scores.softmax(-1) @ torch.cat(v, 2))
    return attention.output(torch.cat(result, 2))


def run(keys, layout, dtype=torch.float64):
    attention, tokens, rotation = small_layer(layout, dtype)
    got = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
    return got, reference(keys, attention, tokens, layout, rotation)


@pytest.mark.parametrize("layout", [*LAYOUTS[:4], TokenLayout(19, 1, (3, 2))])
@pytest.mark.parametrize(
    "keys",
    [
        CausalDescriptorKeys(2),
        CausalDescriptorKeys(2, "nearest", count_bias=1.0, keep_one_in=3),
        CausalDescriptorKeys(1, duplicates=False, keep_one_in=2),
        CausalDescriptorKeys(4, hide_reference=True),
    ],
)
def test_against_materialised_scores(layout, keys):
    torch.testing.assert_close(*run(keys, layout), **EXACT)
    torch.testing.assert_close(*run(keys, layout, torch.float32), rtol=1e-4, atol=1e-5)


def test_later_frames_change_nothing_and_earlier_ones_do():
    layout = TokenLayout(20, 2, (4, 4))
    attention, tokens, rotation = small_layer(layout)
    tokens.requires_grad_(True)
    method = GlobalAttention(keys=CausalDescriptorKeys(2, keep_one_in=2))
    out = method(attention, tokens, layout, rotation, LayerRun()).unflatten(1, (20, -1))
    gradient = torch.autograd.grad(out[:, 17].square().sum(), tokens)[0].unflatten(1, (20, -1))
    moved = gradient.abs().amax((0, 2, 3)) > 0
    assert moved.nonzero().flatten().tolist() == [*range(0, 18, 2), 17]


def test_weights_sum_to_one():
    layout = TokenLayout(18, 2, (4, 4))
    attention, tokens, rotation = small_layer(layout)
    with torch.no_grad():
        attention.qkv.weight[32:] = 0
        attention.qkv.bias[32:] = 1
        attention.proj.weight.copy_(torch.eye(16))
        attention.proj.bias.zero_()
    for keys in (CausalDescriptorKeys(), CausalDescriptorKeys(2, count_bias=1.0)):
        out = GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
        torch.testing.assert_close(out, torch.ones_like(out))


def test_one_frame_is_the_plain_method():
    layout = TokenLayout(1, 2, (4, 6))
    attention, tokens, rotation = small_layer(layout)
    plain, causal = (
        GlobalAttention(keys=keys)(attention, tokens, layout, rotation, LayerRun())
        for keys in (DescriptorKeys(2, keyframes=0), CausalDescriptorKeys(2))
    )
    assert torch.equal(plain, causal)


@pytest.mark.parametrize(("spec", "kept"), [("flash:r=2", 1), ("flash:r=2", 3), ("flash:version=v2", 2)])
def test_a_stream_of_single_frames_is_the_same_pass(spec, kept):
    model = tiny_vggt(torch.float64)
    images = torch.rand(18, 3, 42, 56, dtype=torch.float64)
    options = RecursiveOptions(spec, keep_one_in=kept, memory_frames=None, camera_window=None, revise=True)
    engine = RecursiveEngine(model, options)
    got = torch.cat([engine.push(image[None]).z_depth for image in images])
    joint = "," if ":" in spec else ":"
    plan = Plan.parse(f"{spec}{joint}causal=true,keep_one_in={kept}", model.config.depth)
    with torch.no_grad():
        want = model(images, plan)
    torch.testing.assert_close(got, want.z_depth[0].float(), rtol=1e-5, atol=1e-5)
    cameras = engine.cameras()
    assert cameras is not None
    torch.testing.assert_close(cameras[0], want.cam_from_world[0].float(), rtol=1e-5, atol=1e-5)


def test_keys_are_counted_as_they_are_seen():
    layout, keys = TokenLayout(5, 2, (4, 4)), CausalDescriptorKeys(2, keep_one_in=2)
    each, seen = 2 + 4, [1, 2, 2, 3, 3]
    assert keys.count(layout) == pytest.approx(16 + each * sum(seen) / 5)
    assert keys.projected(layout) == 16 + 5 * each
    assert dataclasses.replace(keys, hide_reference=True).projected(layout) == 5 * each


def test_wrong_options_raise():
    with pytest.raises(ValueError, match="keyframes"):
        FlashVggt(causal=True, keyframes=3)
    with pytest.raises(ValueError, match="keep_one_in"):
        CausalDescriptorKeys(keep_one_in=0)
    with pytest.raises(UsageError, match="keep_one_in"):
        Plan.parse("flash:keep_one_in=2", 3)
    with pytest.raises(ValueError, match="4"):
        run(CausalDescriptorKeys(), LAYOUTS[4])
    plan = Plan.parse("flash:version=v2,causal=true", 24)
    kinds = [type(layer.keys) for layer in plan.layers]
    assert kinds == [SameFrameKeys] * 9 + [CausalDescriptorKeys] * 11 + [SameFrameKeys] * 4
    assert Plan.parse(str(plan), 24) == plan
