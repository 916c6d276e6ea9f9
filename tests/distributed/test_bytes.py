"""Bytes of a rank of the full-size network, counted on a device without storage, against preflight's."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from manyview.attention.plan import Plan
from manyview.bench.live_bytes import LiveBytes
from manyview.distributed.frames import FrameSplit
from manyview.distributed.ranks import Pending, Ranks
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGT_1B, VGGTConfig
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.plan.preflight import Request
from manyview.reconstruction.plan.ranks import Traffic, traffic

pytestmark = pytest.mark.usefixtures("unchecked")

CONFIG = dataclasses.replace(VGGT_1B, track_head=None, point_head=None)
assert CONFIG.encoder is not None
FEWER_LAYERS = dataclasses.replace(
    CONFIG, depth=4, taps=(0, 1, 2, 3), encoder=dataclasses.replace(CONFIG.encoder, depth=2)
)
"""Of full width: what layers hold beside the taps comes and goes."""
PIECES = RunOptions(torch.bfloat16, 4, 4 * 1041, heads=("camera",))


class CountedRanks(Ranks):
    """Other ranks that send tensors of the right sizes without numbers."""

    def _all_gather(self, x: Tensor, sizes: Sequence[int]) -> Pending:
        joined = x.new_empty(sum(sizes), *x.shape[1:])
        return Pending(lambda sent=x: joined)  # `sent` lives until then

    def _all_reduce(self, x: Tensor) -> Tensor:
        return x.clone()

    def with_split(self, frames: int, together: int = 1, ring: bool = False) -> Ranks | None:
        raise NotImplementedError

    def _to_next(self, x: Tensor, like: Sequence[int]) -> Pending:
        arriving = x.new_empty(*like)
        return Pending(lambda sent=x: arriving)


class ByLayer:
    """A recorder that notes how much a rank receives in each global layer."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks, self.before = ranks, 0
        self.received: list[int] = []

    def mark(self, stage: str) -> None:
        if stage == "global layers":
            self.received.append(self.ranks.received - self.before)
        self.before = self.ranks.received


def passed(
    config: VGGTConfig, spec: str, frames: int, rank: int = 1, ring: bool = False
) -> tuple[float, int, ByLayer, Traffic]:
    """Of one of four ranks: counted bytes as a part of those expected, their number, what it received."""
    plan = Plan.parse(spec, config.depth)
    request = Request(config, frames, 392, 518, plan, PIECES.heads, torch.bfloat16)
    split = FrameSplit.of(frames, 4, rank)
    assert split is not None
    ranks = CountedRanks(split, ring)
    counter, options = ByLayer(ranks), dataclasses.replace(PIECES, ranks=ranks)
    with torch.device("meta"):
        model = VGGT(config)
        images = torch.empty(1, split.count, 3, 392, 518, dtype=torch.uint8)
    with torch.no_grad(), LiveBytes() as live:
        model(images, plan, options, counter)
    counted = live.peak + images.numel()
    share = counted / request.peak_bytes(PIECES, split=split, ring=ring)
    return share, counted, counter, traffic(request, 4)


def test_dense_attention_of_the_full_size_network():
    """And of fewer layers in a ring, which takes less memory and brings as much."""
    share, at_once, counter, moved = passed(CONFIG, "dense", 32)
    assert 0.95 < share <= 1.02
    assert counter.received == list(moved.layers) and len(moved.layers) == 24
    assert counter.ranks.received == moved.total
    share, passing, in_a_ring, moved = passed(FEWER_LAYERS, "dense", 32, ring=True)
    assert 0.85 < share <= 1
    assert in_a_ring.received == list(moved.layers) == counter.received[:4]
    assert at_once - passing > 0.5 * (32 - 2 * 8) * 2 * 1041 * 1024 * 2


@pytest.mark.parametrize("spec", ["avggt", "flash:keyframes=0,first_frame=false"])
def test_plans_bring_what_they_say(spec):
    """On average: the rank that has a whole reference frame does not receive it."""
    _, _, first, moved = passed(FEWER_LAYERS, spec, 16, rank=0)
    _, _, other, _ = passed(FEWER_LAYERS, spec, 16)
    mean = [(a + 3 * b) / 4 for a, b in zip(first.received, other.received, strict=True)]
    assert mean == list(moved.layers)
    assert (first.ranks.received + 3 * other.ranks.received) / 4 == moved.total
