"""What preflight says of ranks against counted bytes of passes over ranks."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.bench.live_bytes import LiveBytes
from manyview.distributed.frames import FrameSplit
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGT_1B, CameraHeadConfig
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.plan.preflight import Request
from manyview.reconstruction.plan.ranks import traffic

from ..models.tiny import TINY, tiny_vggt
from .counted import CountedRanks
from .threads import own_frames, run


@pytest.fixture(scope="module")
def tiny() -> VGGT:
    return tiny_vggt()


@pytest.mark.parametrize(
    "spec",
    [
        "dense",
        "0-1:frame,2-3:dense",
        "avggt:early=1,stride=2x2",
        "random",
        "flash:r=2,keyframes=2",
        "httm:time=2,space=4",
        "anchors:frames=2",
        "anchors:frames=3,descriptors=2,cameras=all",
        "gotohunt:frames=3",
        "spark3r:q=2,r=2,group=2",
        "ring",
    ],
)
@torch.no_grad()
def test_received_bytes_of_a_whole_pass(tiny, spec):
    """On average over ranks to the byte, also where they have different numbers of frames."""
    spec, ring = ("dense", True) if spec == "ring" else (spec, False)
    frames, ranks = 7, 3
    images = torch.rand(1, frames, 3, 42, 56, generator=torch.Generator().manual_seed(0))
    plan = Plan.parse(spec, TINY.depth)

    def received(group):
        tiny(own_frames(images, group), plan, RunOptions(heads=("camera",), ranks=group))
        return group.received

    found = run(frames, ranks, received, plan.frames_together(TINY.layout(frames, 42, 56)), ring)
    request = Request(TINY, frames, 42, 56, plan, ("camera",), torch.float32)
    moved = traffic(request, len(found))
    assert abs(sum(found) / len(found) - moved.total) <= len(moved.layers)  # each is rounded


@pytest.mark.usefixtures("unchecked")
@torch.no_grad()
def test_bytes_of_a_rank_of_the_full_width():
    """The widths of VGGT-1B, of which most is keys and values of all frames, or a ring's."""
    config = dataclasses.replace(
        VGGT_1B, depth=1, taps=(0, 0, 0, 0), encoder=None, camera_head=CameraHeadConfig(1, iterations=1),
        depth_head=None, point_head=None, track_head=None,
    )  # fmt: skip
    with torch.device("meta"):
        model = VGGT(config)
    for spec, ring in (("dense", False), ("dense", True), ("random", False)):
        plan, heads = Plan.parse(spec, config.depth), ("camera",)
        request = Request(config, 80, 140, 196, plan, heads, torch.float32)
        split = FrameSplit.of(80, 4, 0)
        group = CountedRanks(split, ring)
        options = RunOptions(torch.float32, 10, 4000, heads=heads, ranks=group)
        images = torch.empty(1, split.count, 3, 140, 196, dtype=torch.uint8, device="meta")
        with LiveBytes() as live:
            model(images, plan, options)
        counted = live.peak + images.numel()
        estimate = request.peak_bytes(options, split=split, ring=ring)
        assert counted <= estimate <= 1.1 * counted, (spec, ring)
        received = traffic(request, 4)
        if spec == "dense":  # elsewhere the first rank has more of what all need
            assert group.received == received.total
