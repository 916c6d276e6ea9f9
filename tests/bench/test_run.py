"""What a benchmark measures, on a model of random weights."""

from __future__ import annotations

import dataclasses
import time

import pytest
import torch

from manyview.attention.layout import TokenLayout
from manyview.attention.plan import Plan
from manyview.bench import BenchOptions, run_bench
from manyview.bench.clock import StageTimer, timed
from manyview.bench.live_bytes import LiveBytes
from manyview.bench.method_run import MethodRun
from manyview.bench.subject import random_model, sizes, subject
from manyview.bench.table import table
from manyview.errors import UsageError
from manyview.models.flops import forward_flops
from manyview.models.recording import stage_counts
from manyview.models.run_options import RunOptions
from manyview.reconstruction.plan.environment import attention_kernel, commit, describe
from manyview.reconstruction.plan.machine import Machine
from manyview.train.config import load_config

CPU = torch.device("cpu")
SMALL = BenchOptions("small-random", frames=(3, 1), size=(40, 32), device="cpu", runs=2, precision="fp32")


@pytest.fixture(scope="module")
def report():
    return run_bench(dataclasses.replace(SMALL, plans=("dense", "frame")))


def test_every_case_is_measured_from_few_frames_to_many(report):
    assert [(c.plan, c.frames) for c in report.measurements] == [
        ("dense", 1), ("dense", 3), ("frame", 1), ("frame", 3),
    ]  # fmt: skip
    assert report.refusals == []


def test_stages_are_those_of_the_forward_pass_and_fill_its_time(report):
    depth = sizes()["small"].depth
    for case in report.measurements:
        assert set(case.stage_seconds) == set(stage_counts(depth, SMALL.heads)) == set(case.stage_flops)
        assert len(case.run_seconds) == SMALL.runs
        assert min(case.run_seconds) <= case.seconds <= max(case.run_seconds)
        # Medians of parts need not add up to the median of sums, but nothing large may be missing.
        assert 0.3 * min(case.run_seconds) < sum(case.stage_seconds.values()) < 1.5 * max(case.run_seconds)


def test_operations_and_floor_follow_from_the_formulas(report):
    config = sizes()["small"]
    case = report.measurements[1]
    layout = TokenLayout(3, config.special_tokens, (4, 5))
    assert case.tokens == layout.tokens
    assert case.stage_flops == forward_flops(config, layout, Plan.dense(config.depth), SMALL.heads)
    assert report.floor_seconds(case) == sum(case.stage_flops.values()) / report.gemm_flops_per_s
    assert report.measurements[3].flops < case.flops
    figures = report.to_json()["measurements"][1]
    assert figures["flops_per_s"] == case.flops / case.seconds


def test_memory_is_that_of_one_pass_beside_the_weights(report):
    model = subject("small-random", CPU, SMALL.heads)
    case = report.measurements[1]
    images = torch.zeros(3, 3, 32, 40, dtype=torch.uint8)
    with torch.no_grad(), LiveBytes() as live:
        model(images, options=RunOptions(**case.pieces))
    assert case.peak_bytes == live.peak + images.numel()
    assert report.measurements[0].peak_bytes < case.peak_bytes < 1.3 * case.expected_peak_bytes


def test_random_weights_are_seeded_and_of_working_scale():
    config = sizes()["small"]
    one, same, other = (random_model(config, CPU, seed).state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["aggregator.camera_token"], other["aggregator.camera_token"])
    with torch.no_grad():
        result = random_model(config, CPU)(torch.rand(2, 3, 32, 40))
    assert result.z_depth is not None
    assert torch.isfinite(result.z_depth).all() and torch.isfinite(result.pose_encoding).all()
    assert result.z_depth.std() > 0


def test_the_small_size_is_that_of_the_bundled_recipe():
    assert sizes()["small"] == load_config("small").model


def test_heads_that_are_not_timed_are_not_made():
    model = subject("small-random", CPU, ("camera", "points"))
    assert model.available_heads == ("camera", "points")


def test_the_timer_books_each_stretch_under_its_stage():
    def run(timer):
        for stage, pause in (("a", 0.03), ("b", 0.06), ("a", 0.03)):
            time.sleep(pause)
            timer.mark(stage)
        time.sleep(0.03)

    wall, timer = timed(CPU, run, StageTimer)
    stages = timer.seconds()
    assert list(stages) == ["a", "b"]
    assert min(stages.values()) >= 0.06
    assert wall >= stages["a"] + stages["b"] + 0.03


def test_what_does_not_fit_is_recorded_and_larger_cases_are_not_tried(monkeypatch):
    tiny = Machine(CPU, "a small box", 400_000, 400_000)
    monkeypatch.setattr("manyview.bench.method_run.inspect_machine", lambda device: tiny)
    report = run_bench(dataclasses.replace(SMALL, frames=(1, 40, 50)))
    assert [case.frames for case in report.measurements] == []
    assert [refusal.frames for refusal in report.refusals] == [1, 40, 50]
    assert "a small box has 0 MiB free" in report.refusals[0].reason
    assert report.refusals[1].reason == "fewer frames did not fit"


@pytest.mark.parametrize("in_turns", [False, True])
def test_an_error_ends_its_case_and_running_out_of_memory_larger_ones_too(monkeypatch, in_turns):
    real = MethodRun._first_pass

    def first_pass(self: MethodRun) -> tuple[int, int | None]:
        if str(self._request.plan) == "frame" and self._request.views == 1:
            raise RuntimeError("a bug\nand where it is")
        if str(self._request.plan) == "httm" and self._request.views == 1:
            raise RuntimeError("can't allocate memory: 9 bytes")
        return real(self)

    monkeypatch.setattr(MethodRun, "_first_pass", first_pass)
    plans = ("dense", "frame", "httm")
    report = run_bench(dataclasses.replace(SMALL, plans=plans, in_turns=in_turns, runs=1, rounds=1))
    ran = [("dense", 1), ("dense", 3), ("frame", 3)]
    assert sorted((case.plan, case.frames) for case in report.measurements) == ran
    failed, *lost = sorted(report.refusals, key=lambda one: (one.plan, one.frames))
    assert (failed.plan, failed.frames, failed.failed) == ("frame", 1, True)
    assert failed.reason == "RuntimeError: a bug" and "frame, 1 frames: failed: Runtime" in table(report)
    assert [(one.plan, one.frames, one.failed) for one in lost] == [("httm", 1, False), ("httm", 3, False)]
    assert report.to_json()["refusals"][0]["failed"] in (True, False)


def test_every_method_runs_once_on_few_frames_before_its_first_case(monkeypatch):
    passes = []
    real = MethodRun._pass

    def count(self: MethodRun, kind: type) -> tuple[float, StageTimer]:
        passes.append((str(self._request.plan), self._request.views))
        return real(self, kind)

    monkeypatch.setattr(MethodRun, "_pass", count)
    once = dataclasses.replace(SMALL, frames=(5, 6), plans=("dense", "frame"), single_pass=1e-9)
    report = run_bench(once)
    assert passes == [(plan, frames) for plan in ("dense", "frame") for frames in (4, 5, 6)]
    assert all(case.first_pass for case in report.measurements) and "once" in table(report)


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"frames": ()}, "frames"), ({"frames": (0,)}, "frames"),
        ({"plans": ()}, "plan"), ({"heads": ("track",)}, "track"), ({"runs": 0}, "run"),
        ({"warmup": 0}, "warmup"), ({"size": (0, 8)}, "0x8"),
    ],
)  # fmt: skip
def test_options_check_themselves(wrong, named):
    with pytest.raises(UsageError, match=named):
        dataclasses.replace(SMALL, **wrong)


@pytest.mark.parametrize(
    "wrong, named",
    [
        ({"model": "huge-random"}, "huge"), ({"size": (41, 32)}, "41x32"),
        ({"plans": ("sparse",)}, "sparse"), ({"device": "tpu"}, "tpu"),
        ({"precision": "fp8"}, "fp8"),
    ],
)  # fmt: skip
def test_what_cannot_run_at_all_is_refused(wrong, named):
    with pytest.raises(UsageError, match=named):
        run_bench(dataclasses.replace(SMALL, **wrong))


def test_the_environment_lists_attention_backends():
    place = describe(CPU, torch.float32, 4, 32)
    # A CPU has the tiled kernel and the plain products, and none of CUDA's.
    assert place["attention_backends"] == ["flash_attention", "math"]
    assert place["triton"] is None or place["triton"][0].isdigit()


def test_the_environment_is_described(monkeypatch):
    place = describe(CPU, torch.float32, 4, 32)
    assert place["torch"] == torch.__version__ and place["precision"] == "fp32"
    assert place["memory_bytes"] > 2**28 and place["device_name"]
    assert attention_kernel(CPU, torch.float32, 4, 32) == "flash_attention"
    known = commit()
    assert known is None or len(known.partition("+")[0]) == 40
    monkeypatch.setenv("PATH", "")
    assert commit() is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA card")
def test_cuda_stages_fill_the_time_and_memory_is_the_allocators():
    report = run_bench(dataclasses.replace(SMALL, device="cuda", frames=(2, 8), warmup=3))
    few, many = report.measurements
    assert 0.7 * min(many.run_seconds) < sum(many.stage_seconds.values()) < 1.2 * max(many.run_seconds)
    assert 0 < few.peak_bytes < many.peak_bytes < many.reserved_bytes
    assert 0 < many.attention_share < 1
