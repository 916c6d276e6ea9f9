"""Plans compared in turns: the order of passes, who is measured, and what the comparison shows."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from manyview.attention.methods import METHODS
from manyview.attention.plan import Plan
from manyview.bench import BenchOptions, BenchReport, Measurement, Refusal, run_bench
from manyview.bench.comparison import comparison, report_text, sentences
from manyview.bench.method_run import MethodRun
from manyview.bench.methods import named_plans
from manyview.bench.table import table
from manyview.cli.bench import Bench
from manyview.errors import MemoryLimitError, UsageError

SMALL = BenchOptions(
    "small-random",
    frames=(3, 1),
    size=(40, 32),
    device="cpu",
    runs=2,
    plans=("httm", "frame"),
    in_turns=True,
    warmup=2,
    rounds=1,
)


@pytest.fixture(scope="module")
def ran() -> tuple[BenchReport, list[tuple[str, int, bool]]]:
    """A report, and every pass in order: plan, frames, whether it counts."""
    passes: list[tuple[str, int, bool]] = []
    real = MethodRun.run

    def run(self: MethodRun, counts: bool) -> None:
        passes.append((str(self._request.plan), self._request.views, counts))
        real(self, counts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(MethodRun, "run", run)
        return run_bench(SMALL), passes


def test_passes_take_turns_from_few_frames_to_many(ran):
    _, passes = ran
    turn = ["dense", "httm", "frame"]
    assert [(plan, frames) for plan, frames, _ in passes] == [(p, n) for n in (1, 3) for p in 3 * turn]
    assert [counts for _, _, counts in passes[:9]] == 3 * [False] + 6 * [True]


def test_figures_are_those_of_the_plans_cost(ran):
    report, _ = ran
    assert [(c.plan, c.frames) for c in report.measurements] == [
        (plan, frames) for frames in (1, 3) for plan in ("dense", "httm", "frame")
    ]
    dense, httm, _ = report.measurements[3:]
    assert all(len(case.run_seconds) == 2 for case in report.measurements)
    assert dense.extra_flops == 0 < httm.extra_flops
    assert 0 < httm.attention_flops < dense.attention_flops < dense.stage_flops["global layers"]
    figures = report.to_json()["measurements"]
    assert figures[4]["seconds_over_dense"] == httm.seconds / dense.seconds
    assert figures[0]["seconds_over_dense"] == 1


def test_all_is_every_preset_beside_dense():
    assert named_plans(("all",)) == ("dense", "frame", *sorted(METHODS))
    assert named_plans(("avggt:stride=2x2", "dense", "avggt:stride=2x2")) == ("dense", "avggt:stride=2x2")


def test_a_preset_the_network_cannot_have_is_recorded_and_a_misspelt_one_refused(monkeypatch):
    real = Plan.parse

    def parse(spec: str, depth: int) -> Plan:
        if spec == "flash":
            raise UsageError("flash does not go with this network")
        return real(spec, depth)

    monkeypatch.setattr(Plan, "parse", parse)
    report = run_bench(dataclasses.replace(SMALL, plans=("flash",), frames=(1,), runs=1))
    assert [case.plan for case in report.measurements] == ["dense"]
    assert report.refusals == [Refusal("flash", 1, "flash does not go with this network")]
    with pytest.raises(UsageError, match="sparse"):
        run_bench(dataclasses.replace(SMALL, plans=("sparse",)))


def test_a_plan_that_runs_out_of_memory_leaves_the_others(monkeypatch):
    real = MethodRun.run

    def run(self: MethodRun, counts: bool) -> None:
        if str(self._request.plan) == "frame" and self._request.views == 1 and counts:
            raise MemoryLimitError("memory ran out")
        real(self, counts)

    monkeypatch.setattr(MethodRun, "run", run)
    report = run_bench(dataclasses.replace(SMALL, plans=("frame",)))
    assert [(case.plan, case.frames) for case in report.measurements] == [("dense", 1), ("dense", 3)]
    # Not tried with more frames, and that is recorded too.
    assert [(one.plan, one.frames) for one in report.refusals] == [("frame", 1), ("frame", 3)]


def made_up(plan: str, seconds: float, attention: float, frames: int = 64, extra: float = 0.0) -> Measurement:
    return Measurement(
        plan=plan,
        frames=frames,
        tokens=100,
        seconds=seconds,
        run_seconds=(seconds,),
        stage_seconds={"global layers": seconds},
        stage_flops={"global layers": attention + 4e9},
        peak_bytes=1,
        expected_peak_bytes=1,
        pieces={},
        attention_flops=attention,
        extra_flops=extra,
    )


def made_up_report(*cases: Measurement) -> BenchReport:
    place = {
        "device_name": "A Machine", "threads": 1, "torch": "2", "precision": "fp32",
        "attention_kernel": "flash_attention", "commit": None,
    }  # fmt: skip
    model = {"name": "m", "parameters": 2_500_000, "image_size": [40, 32]}
    return BenchReport(SMALL, model, place, 1e12, list(cases))


def test_rows_compare_with_dense():
    report = made_up_report(
        made_up("slow", 3.0, 2e9, extra=1e9), made_up("dense", 2.0, 8e9), made_up("fast", 1.0, 4e9)
    )
    lines = comparison(report).splitlines()
    rows = [
        line.split() for line in lines if line[:5].strip() in ("dense", "fast", "slow") and " 64 " in line
    ]
    assert rows == [
        ["dense", "64", "2", "1.00", "8", "100.0%", "100.0%", "0"],
        ["fast", "64", "1", "0.50", "4", "50.0%", "66.7%", "0"],
        ["slow", "64", "3", "1.50", "2", "25.0%", "58.3%", "1"],
    ]


def test_sentences_name_plans_that_save_attention_and_no_time():
    dense = made_up("dense", 2.0, 8e9)
    slow, fast, dear = made_up("a", 2.0, 2e9), made_up("b", 1.9, 1e9), made_up("c", 2.5, 2.1e9)
    (sentence,) = sentences(made_up_report(dense, slow, fast, dear))
    assert (
        "not faster" in sentence
        and "a (1.00x)" in sentence
        and "b (" not in sentence
        and "c (" not in sentence
    )
    (sentence,) = sentences(made_up_report(dense, fast, dear))
    assert "every plan" in sentence and "(b)" in sentence
    (sentence,) = sentences(made_up_report(dense, dear))
    assert "no plan" in sentence
    (sentence,) = sentences(made_up_report(fast))
    assert "nothing to compare" in sentence
    few = made_up("dense", 1.0, 1e9, frames=2)
    lines = sentences(made_up_report(dense, few, fast))
    assert [line.split(":")[0] for line in lines] == ["2 frames", "64 frames"]


def test_the_command_compares_and_keeps_both_tables(tmp_path: Path, capsys):
    small = Bench(model="small-random", frames=(2,), size=(40, 32), device="cpu", runs=1, out=tmp_path)
    assert dataclasses.replace(small, accel=("frame",), plot=False).run() == 0
    printed = capsys.readouterr().out
    assert "x dense" in printed and "attention FLOPs" in printed and "x floor" not in printed
    written = (tmp_path / "bench.txt").read_text()
    assert "x dense" in written and "x floor" in written
    figures = json.loads((tmp_path / "bench.json").read_text())
    assert figures["settings"]["in_turns"] and len(figures["measurements"]) == 2


def test_without_turns_there_is_no_comparison():
    report = made_up_report(made_up("dense", 2.0, 8e9))
    report.options = dataclasses.replace(SMALL, in_turns=False)
    assert report_text(report) == table(report)
