"""The estimate of memory against counted bytes, the choice of pieces, and the ways out."""

from __future__ import annotations

import dataclasses
import re

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.bench.live_bytes import LiveBytes
from manyview.errors import MemoryLimitError, UsageError
from manyview.models.part_configs import EncoderConfig
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGT_1B, VGGTConfig
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.plan import machine as machines
from manyview.reconstruction.plan.footprint import estimate_peak_bytes
from manyview.reconstruction.plan.machine import Machine, pick_device, pick_dtype
from manyview.reconstruction.plan.preflight import (
    Request,
    alternatives,
    largest_input,
    preflight,
    run_options_candidates,
)

WIDE = dataclasses.replace(
    VGGT_1B, depth=4, taps=(0, 1, 2, 3), encoder=EncoderConfig(depth=1), track_head=None
)


def request(views: int = 100, dtype: torch.dtype = torch.float32, config: VGGTConfig = WIDE) -> Request:
    return Request(config, views, 392, 518, Plan.dense(config.depth), ("camera", "depth"), dtype)


def _just_enough(full: Request, kind: str = "cpu") -> list[float]:
    """Gibibytes with which each rung of the ladder just fits."""
    return [
        full.peak_bytes(options, torch.device(kind)) * 1.12 / 2**30
        for options in run_options_candidates(full)
    ]


def cpu(gibibytes: float, kind: str = "cpu") -> Machine:
    size = int(gibibytes * 2**30)
    return Machine(torch.device(kind), "test machine", size, size)


@pytest.fixture(scope="module")
def wide_model() -> VGGT:
    with torch.device("meta"):
        return VGGT(WIDE)


@pytest.mark.usefixtures("unchecked")
# Every pair of heads and chunks, and each of both with either precision.
@pytest.mark.parametrize("heads", [1, 2, 3])
@pytest.mark.parametrize("chunks", [(None, None, None), (2, 2000, 1), (8, 9000, 8)])
def test_estimate_is_near_and_not_below_counted_bytes(wide_model, heads, chunks):
    model, frames = wide_model, 12
    dtype = (torch.float32, torch.bfloat16)[(heads + (chunks[0] or 0) // 2) % 2]
    images = torch.empty(1, frames, 3, 140, 196, dtype=torch.uint8, device="meta")
    options = RunOptions(dtype, *chunks, heads=("camera", "depth", "points")[:heads])
    with torch.no_grad(), LiveBytes() as live:
        model(images, options=options)
    counted = live.peak + images.numel()
    layout = model.config.layout(frames, 140, 196)
    estimate = estimate_peak_bytes(WIDE, layout, options, dtype.itemsize)
    assert counted <= estimate <= 1.5 * counted


def test_pieces_shrink_with_the_memory():
    sizes = [preflight(request(), cpu(g)).options.mlp_tokens_per_chunk for g in _just_enough(request())]
    assert sizes[0] == 32768 and sizes == sorted(sizes, reverse=True) and sizes[-1] <= 2048
    for options in run_options_candidates(request()):
        assert options.heads == ("camera", "depth") and options.dtype == torch.float32


@pytest.mark.parametrize("gibibytes", [0.6, 1.0, 2.0, 2.6])
@pytest.mark.parametrize("kind", ["cpu", "cuda"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_three_ways_out_each_of_which_fits(gibibytes, kind, dtype):
    full, machine = request(300, dtype), cpu(gibibytes, kind)
    with pytest.raises(MemoryLimitError, match="300 views") as refused:
        preflight(full, machine)
    ways = alternatives(full, machine)
    assert len(ways) == len(set(ways)) == 3 and all(way in str(refused.value) for way in ways)
    for way in ways:
        changed = full
        if found := re.search(r"--max-frames (\d+)", way):
            changed = dataclasses.replace(changed, views=int(found[1]))
        if found := re.search(r"--image-size (\d+)", way):
            rows = max(1, round(28 * int(found[1]) / 518))
            changed = dataclasses.replace(changed, width=int(found[1]), height=14 * rows)
        if "bf16" in way:
            changed = dataclasses.replace(changed, dtype=torch.bfloat16)
        assert changed != full
        preflight(changed, machine)
        if "--max-frames" in way:  # and not one view more
            with pytest.raises(MemoryLimitError):
                preflight(dataclasses.replace(changed, views=changed.views + 1), machine)


def test_low_precision_and_no_point_head_are_offered():
    heavy = dataclasses.replace(request(60), heads=("camera", "depth", "points"))
    enough = dataclasses.replace(heavy, dtype=torch.bfloat16)
    assert any("bf16" in way for way in alternatives(heavy, cpu(_just_enough(enough, "cuda")[-1], "cuda")))
    assert "without --point-head" in alternatives(heavy, cpu(_just_enough(request(60))[-1]))


def test_not_even_one_view():
    with pytest.raises(MemoryLimitError, match="2 views"):
        preflight(request(2), cpu(0.0001))
    assert largest_input(request(), cpu(0.0001)) == 0


def test_largest_input_is_the_edge():
    most = largest_input(request(), cpu(4))
    preflight(request(most), cpu(4))
    with pytest.raises(MemoryLimitError):
        preflight(request(most + 1), cpu(4))


def test_the_sentence_has_the_numbers():
    said = preflight(request(7), cpu(100), flops_per_s=1e12).sentence()
    for part in ("7 views", "518x392", "7,287 tokens", "dense", "fp32", "test machine", "about"):
        assert part in said


def test_devices_and_precisions(monkeypatch):
    assert pick_device("cpu").type == "cpu" and pick_dtype(torch.device("cpu")) == torch.float32
    assert pick_dtype(torch.device("cpu"), "bf16") == torch.bfloat16
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert pick_device("mps").type == "mps"  # by name only
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device().type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device().type == "cuda"
    for wrong in ("gpu", "cuda:99", "meta"):
        with pytest.raises(UsageError):
            pick_device(wrong)
    with pytest.raises(UsageError):
        pick_dtype(torch.device("cpu"), "int4")
    for capability, dtype in (((8, 0), torch.bfloat16), ((7, 5), torch.float16), ((9, 0), torch.bfloat16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _d, c=capability: c)
        assert pick_dtype(torch.device("cuda")) == dtype


def test_memory_of_this_machine(tmp_path, monkeypatch):
    machine = machines.inspect_machine(torch.device("cpu"))
    assert 0 < machine.free_bytes <= machine.total_bytes
    assert machines.inspect_machine(torch.device("cpu"), limit_bytes=5).free_bytes == 5
    assert machines.inspect_machine(torch.device("cpu"), reserve_bytes=10**18).free_bytes == 0
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    monkeypatch.setattr(machines, "_CGROUP", tmp_path)
    contained = machines.inspect_machine(torch.device("cpu"))
    assert (contained.free_bytes, contained.total_bytes) == (600000, 1000000)
    waited = machines.inspect_machine(torch.device("cpu"), limit_bytes=500000, reserve_bytes=200000)
    assert (waited.free_bytes, waited.total_bytes) == (400000, 500000)
