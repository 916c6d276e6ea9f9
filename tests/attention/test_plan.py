"""Plans as data: parsing, printing, cost; the attention of a layer against materialised scores."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from manyview.attention.dense import AllKeys, SameFrameKeys
from manyview.attention.global_attention import GlobalAttention
from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.attention.protocols import LayerRun
from manyview.attention.softmax import sdpa
from manyview.attention.softmax.sdpa import attend, attend_in_pieces
from manyview.errors import MemoryLimitError, UsageError
from manyview.models.blocks import Attention
from manyview.models.rotary import frame_positions, rotation_for

LAYOUT = TokenLayout(frames=3, special_tokens=5, grid=(3, 4))


@given(st.lists(st.booleans(), min_size=1, max_size=24))
def test_a_plan_prints_what_parses_back(choices):
    plan = Plan(tuple(GlobalAttention(keys=AllKeys() if c else SameFrameKeys()) for c in choices))
    assert Plan.parse(str(plan), len(choices)) == plan
    assert hash(Plan.parse(str(plan), len(choices))) == hash(plan)


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("denze", "denze"),
        ("0-3:dense", "layer 4"),
        ("0-9:dense", "0-9"),
        ("0-5:dense,3:frame", "layer 3"),
        ("a-b:dense", "a-b"),
        ("3-1:dense", "3-1"),
        ("", "dense, frame"),
    ],
)
def test_wrong_specs_raise_and_name_what_is_wrong(spec, named):
    with pytest.raises(UsageError, match=named):
        Plan.parse(spec, 6)


def test_cost_counts_two_operations_per_multiply_add():
    cost = Plan.dense(2).cost(LAYOUT, dim=8)
    tokens = 3 * 17
    assert cost.attention_flops == 2 * 2 * 2 * tokens * tokens * 8
    assert cost.linear_flops == 2 * 4 * 2 * tokens * 8 * 8
    assert cost.key_value_bytes == 2 * tokens * 8 * 2
    assert Plan.frame_only(2).cost(LAYOUT, dim=8).attention_flops == 2 * 4 * tokens * 17 * 8


@pytest.mark.parametrize("keys", [AllKeys(), SameFrameKeys()])
@pytest.mark.parametrize("frames_per_chunk", [None, 1, 2])
def test_a_layer_against_materialised_scores(keys, frames_per_chunk):
    torch.manual_seed(0)
    attention = Attention(16, 2, qk_norm=True).double()
    tokens = torch.randn(2, LAYOUT.tokens, 16, dtype=torch.float64)
    rotation = rotation_for(frame_positions(LAYOUT.grid, LAYOUT.special_tokens), 8)
    with torch.no_grad():
        got = GlobalAttention(keys=keys)(attention, tokens, LAYOUT, rotation, LayerRun(0, frames_per_chunk))
        q = attention.queries(tokens, rotation)
        k, v = attention.keys_values(tokens, rotation)
        scores = q @ k.transpose(-1, -2) / 8**0.5
        if keys == SameFrameKeys():
            frame = torch.arange(LAYOUT.tokens) // LAYOUT.tokens_per_frame
            scores = scores.masked_fill(frame[:, None] != frame[None], float("-inf"))
        want = attention.output(scores.softmax(-1) @ v)
    torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


def test_large_attention_takes_the_fused_path_and_is_right():
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 400, 8, dtype=torch.float64) for _ in range(3))
    want = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ v
    torch.testing.assert_close(attend(q, k, v), want, rtol=1e-10, atol=1e-12)


def test_devices_without_known_kernels_take_pieces():
    torch.manual_seed(0)
    q, k, v = (torch.randn(2, 2, 50, 8, dtype=torch.float64) for _ in range(3))
    want = (q @ k.transpose(-1, -2) / 8**0.5).softmax(-1) @ v
    for scores in (1, 500, 10**6):
        torch.testing.assert_close(attend_in_pieces(q, k, v, scores=scores)[0], want, rtol=1e-10, atol=1e-12)


def test_no_quadratic_fallback_when_no_kernel_fits(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise RuntimeError("No available kernel. Aborting execution.")

    monkeypatch.setattr(sdpa.F, "scaled_dot_product_attention", refuse)
    q = torch.randn(1, 2, 400, 8)
    with pytest.raises(MemoryLimitError, match="head width 8"):
        attend(q, q, q)


@pytest.mark.parametrize("field", ["queries", "keys", "fill"])
def test_unknown_parts_raise(field):
    with pytest.raises(ValueError, match=field):
        GlobalAttention(**{field: "some"})


def test_layouts_check_themselves():
    assert LAYOUT.tokens == 51 and LAYOUT.patches_per_frame == 12
    for wrong in ({"frames": 0}, {"grid": (0, 3)}, {"reference_frame": 3}):
        with pytest.raises(ValueError):
            TokenLayout(**{"frames": 3, "special_tokens": 5, "grid": (3, 4), **wrong})


@pytest.mark.parametrize(
    "spec",
    [
        "dense",
        "frame",
        "avggt",
        "avggt:stride=2x2",
        "avggt:gain=1",
        "avggt:stride=2x2,diagonal=false,mean=false",
        "flash:r=2",
        "anchors:frames=2",
        "anchors:frames=2,own_frame=false,early=3",
        "anchors:frames=9",
    ],
)
def test_cost_agrees_with_counted_operations(spec):
    layout = TokenLayout(frames=4, special_tokens=5, grid=(10, 13))
    attention = Attention(32, 2, qk_norm=True)
    tokens = torch.randn(1, layout.tokens, 32)
    rotation = rotation_for(frame_positions(layout.grid, layout.special_tokens), 16)
    plan = Plan.parse(spec, 8)
    # The keyframes that descriptors add are chosen from frame features.
    run = LayerRun(frame_features=torch.randn(1, layout.frames, 32))

    def kernel(q, k, v, *_, **__):
        """PyTorch's counter knows the CUDA kernels only."""
        return 4 * math.prod(q) * k[-2]

    mapping = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: kernel}
    with FlopCounterMode(display=False, custom_mapping=mapping) as counter, torch.no_grad():
        for layer in plan.layers:
            layer(attention, tokens, layout, rotation, run)
    cost = plan.cost(layout, 32, head_dim=16)
    assert counter.get_total_flops() == pytest.approx(cost.linear_flops + cost.attention_flops, rel=0.02)
