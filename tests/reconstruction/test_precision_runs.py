"""Precisions from a user's options to a result: what runs, what is told, and what memory is expected."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from manyview.attention.plan import Plan
from manyview.attention.softmax import bf16_cpu as cpu_products
from manyview.attention.softmax.bf16_cpu import cpu_multiplies_bf16
from manyview.bench.live_bytes import LiveBytes
from manyview.errors import UsageError
from manyview.models.part_configs import EncoderConfig
from manyview.models.run_options import RunOptions
from manyview.models.vggt.config import VGGT_1B
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.plan import machine
from manyview.reconstruction.plan import preflight as preflight_module
from manyview.reconstruction.plan.footprint import estimate_peak_bytes
from manyview.reconstruction.plan.machine import Machine
from manyview.reconstruction.plan.preflight import Request, preflight, run_options_candidates
from manyview.reconstruction.run.engine import reconstruct
from tests.models.tiny import tiny_vggt

WIDE = dataclasses.replace(
    VGGT_1B, depth=4, taps=(0, 1, 2, 3), encoder=EncoderConfig(depth=1), track_head=None
)


def test_precisions_reach_the_result(photos):
    model = tiny_vggt()
    exact, low, fp8 = (
        reconstruct(photos, model, **options)
        for options in ({}, {"precision": "bf16"}, {"precision": "bf16", "linear_precision": "fp8"})
    )
    errors = [float(np.abs(one.z_depth / exact.z_depth - 1).mean()) for one in (low, fp8)]
    assert 0 < errors[0] < errors[1] < 0.1
    assert low.settings["precision"] == "bf16" and "linears" not in low.settings
    assert fp8.settings["linears"] == "fp8"
    with pytest.raises(UsageError, match="int8"):
        reconstruct(photos, model, linear_precision="int8")


def test_the_old_name_of_the_linear_precision_works_and_warns_once(photos):
    with pytest.warns(DeprecationWarning) as told:
        scene = reconstruct(photos, tiny_vggt(), linears="fp8", image_size=28)
    assert scene.settings["linears"] == "fp8"
    assert ["linear_precision" in str(one.message) for one in told] == [True]


@pytest.mark.parametrize("linear_precision", ["plain", "fp8"])
@pytest.mark.parametrize("keep_weights", [True, False])
def test_converted_weights_are_in_the_estimate(linear_precision, keep_weights):
    chunks = (8, 9000, 8) if keep_weights == (linear_precision == "plain") else (2, 2000, 2)
    with torch.device("meta"):
        model = VGGT(WIDE)
        images = torch.empty(1, 12, 3, 140, 196, dtype=torch.uint8)
    options = RunOptions(
        torch.bfloat16, *chunks, linear_precision=linear_precision, keep_weights=keep_weights
    )
    with torch.no_grad(), LiveBytes() as live:
        model(images, options=options)
    counted = live.peak + images.numel()
    estimate = estimate_peak_bytes(WIDE, model.config.layout(12, 140, 196), options, 2)
    assert counted <= estimate <= 1.7 * counted


def test_only_the_last_rung_converts_anew():
    request = Request(
        WIDE,
        100,
        392,
        518,
        Plan.dense(4),
        ("camera",),
        torch.bfloat16,
        linear_precision="fp8",
        channels_last=True,
    )
    rungs = list(run_options_candidates(request))
    assert [one.keep_weights for one in rungs] == [True] * (len(rungs) - 1) + [False]
    assert all((one.linear_precision, one.channels_last) == ("fp8", True) for one in rungs)
    full = dataclasses.replace(request, dtype=torch.float32, linear_precision="plain")
    assert all(one.keep_weights for one in run_options_candidates(full))


@pytest.mark.parametrize(
    ("facts", "has"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_bf16 sha_ni\n\nprocessor\t: 1\n", True),
        ("vendor_id\t: GenuineIntel\nflags\t\t: avx512f avx512_bf16\n\nprocessor\t: 1\n", False),
        ("vendor_id\t: GenuineIntel\nflags\t\t: avx512_bf16 amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx2 avx512f\nbugs\t\t: not_bf16\n", False),
    ],
)
def test_cpus_that_multiply_bf16(tmp_path, monkeypatch, facts, has):
    (tmp_path / "cpuinfo").write_text(facts)
    monkeypatch.setattr(cpu_products, "_CPU_FACTS", tmp_path / "cpuinfo")
    monkeypatch.setattr(cpu_products, "cpu_multiplies_bf16", cpu_multiplies_bf16.__wrapped__)
    assert machine.multiplies_bf16(torch.device("cpu")) is has
    assert machine.pick_dtype(torch.device("cpu")) is (torch.bfloat16 if has else torch.float32)
    assert not machine.multiplies_bf16(torch.device("mps"))
    monkeypatch.setattr(cpu_products, "_CPU_FACTS", tmp_path / "missing")
    assert not machine.multiplies_bf16(torch.device("cpu"))


def test_memory_of_attention_by_products_is_expected(monkeypatch):
    monkeypatch.setattr(cpu_products, "cpu_multiplies_bf16", lambda: True)
    images = torch.zeros(1, 150, 3, 56, 56, dtype=torch.uint8)
    model = tiny_vggt()
    plan = Plan.dense(model.config.depth)
    request = Request(model.config, 150, 56, 56, plan, ("camera",), torch.bfloat16)
    expected = preflight(request, Machine(torch.device("cpu"), "test", 2**36, 2**36))
    options = dataclasses.replace(expected.options, frames_per_chunk=8)
    with torch.no_grad(), LiveBytes() as live:
        model(images, request.plan, options)
    tensors = request.peak_bytes(options, torch.device("cpu")) - preflight_module._FIRST_USE_BF16
    assert request.peak_bytes(options) < live.peak <= tensors
