"""The formulas against operations counted in a run; the full size against published totals."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.errors import UsageError
from manyview.models.flops import forward_flops
from manyview.models.part_configs import DenseHeadConfig
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGT_1B, TrackHeadConfig, VGGTConfig
from manyview.models.vggt.model import VGGT

from .tiny import TINY

WITH_TRACKS = dataclasses.replace(
    TINY,
    depth_head=DenseHeadConfig(16, (8, 12, 16, 20)),
    track_head=TrackHeadConfig(
        features=8, out_channels=(8, 12, 16, 20), hidden_size=24, corr_levels=3, corr_radius=2,
        iterations=2, time_depth=4, space_depth=2, virtual_tracks=5, num_heads=2,
    ),
)  # fmt: skip
QUERIES = 7


class CountByStage:
    """Reads the counter each time a stage reports."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self.counter, self.before = counter, 0
        self.flops: dict[str, float] = {}

    def mark(self, stage: str) -> None:
        now = self.counter.get_total_flops()
        self.flops[stage] = self.flops.get(stage, 0) + now - self.before
        self.before = now


def cpu_attention(
    q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...], *_: object, **__: object
) -> int:
    """PyTorch's counter knows the CUDA kernels only: scores, then weighted sums, 2 per multiply-add."""
    return 2 * math.prod(q) * k[-2] + 2 * math.prod(q[:-1]) * k[-2] * v[-1]


@contextmanager
def counting() -> Iterator[CountByStage]:
    operation = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    with FlopCounterMode(display=False, custom_mapping={operation: cpu_attention}) as counter:
        yield CountByStage(counter)


def count(config: VGGTConfig, plan: str, heads: tuple[str, ...], frames: int) -> dict[str, float]:
    model = VGGT(config)
    images = torch.rand(1, frames, 3, 42, 70)
    query_points = torch.rand(1, QUERIES, 2) * 40 if "track" in heads else None
    # With gradients on, so that nn.MultiheadAttention runs as countable operations and not as one kernel.
    with counting() as stages:
        model(images, Plan.parse(plan, config.depth), RunOptions(heads=heads), stages, query_points)
    return stages.flops


@pytest.mark.parametrize("plan", ["dense", "frame", "0-1:frame,2-3:dense"])
@pytest.mark.parametrize("heads", [("camera", "depth"), ("points",), ("camera", "track")])
@pytest.mark.parametrize("encoder", [TINY.encoder, None], ids=["dino", "convolution"])
def test_formulas_equal_a_counted_run(plan, heads, encoder):
    config = dataclasses.replace(WITH_TRACKS, encoder=encoder)
    layout = TokenLayout(3, config.special_tokens, (3, 5))
    expected = forward_flops(
        config, layout, Plan.parse(plan, config.depth), heads, QUERIES if "track" in heads else 0
    )
    assert count(config, plan, heads, frames=3) == expected


def test_full_size_per_frame_and_per_pair_of_frames():
    # Wang et al., VGGT; per frame of 392x518: 24 P C^2 a block, 4 P^2 C frame attention, DPT 0.226 TFLOP, of
    # which 0.009 are saved by projecting before maps are resized.
    layout = TokenLayout(100, 5, (28, 37))
    flops = forward_flops(VGGT_1B, layout)
    tokens, dim = 1041, 1024
    assert flops["frame layers"] == 100 * 24 * (24 * tokens * dim**2 + 4 * tokens**2 * dim)
    assert flops["depth head"] + flops["global layers"] - 24 * (
        24 * 100 * tokens * dim**2 + 4 * (100 * tokens) ** 2 * dim
    ) == pytest.approx(100 * 0.217e12, rel=0.01)
    assert flops["camera head"] == pytest.approx(0.0002e15, rel=0.35)


def test_dense_attention_grows_with_the_square_and_frame_attention_does_not():
    def globals_of(plan: str, frames: int) -> float:
        layout = TokenLayout(frames, 5, (28, 37))
        return forward_flops(VGGT_1B, layout, Plan.parse(plan, 24))["global layers"]

    assert globals_of("frame", 80) == 2 * globals_of("frame", 40)
    assert globals_of("dense", 80) > 2.8 * globals_of("dense", 40)


def test_what_the_network_lacks_is_refused():
    layout = TokenLayout(2, 5, (4, 4))
    with pytest.raises(UsageError, match="track head"):
        forward_flops(TINY, layout, heads=("track",))
    with pytest.raises(UsageError, match="pose head"):
        forward_flops(TINY, layout, heads=("pose",))
    with pytest.raises(UsageError, match="3 layers"):
        forward_flops(TINY, layout, Plan.dense(3))
