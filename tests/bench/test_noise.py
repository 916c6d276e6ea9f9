"""Load of the machine, rounds of repeats, and cases that there is no time for."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from manyview.attention.plan import Plan
from manyview.bench import BenchOptions, run_bench
from manyview.bench import noise as noise_module
from manyview.bench.expect import Budget, expected
from manyview.bench.method_run import MethodRun
from manyview.bench.methods import Method
from manyview.bench.noise import load_warning, machine_load, spread
from manyview.bench.subject import sizes
from manyview.bench.table import table
from manyview.errors import UsageError

CPU = torch.device("cpu")
SMALL = BenchOptions("small-random", frames=(1,), size=(40, 32), device="cpu", runs=2)


def seconds_of_passes(monkeypatch, *seconds: float) -> None:
    """Every timed pass that counts takes the next of these, with the stages of a real one."""
    left = list(seconds)
    real = MethodRun._timed_pass

    def timed_pass(self: MethodRun) -> tuple[float, dict[str, float]]:
        return left.pop(0), real(self)[1]

    monkeypatch.setattr(MethodRun, "_timed_pass", timed_pass)


@pytest.mark.parametrize("turns", [False, True])
def test_a_noisy_round_is_repeated_and_the_quiet_one_counts(monkeypatch, turns):
    seconds_of_passes(monkeypatch, 1.0, 2.0, 1.0, 1.1, 9.9)
    report = run_bench(dataclasses.replace(SMALL, in_turns=turns))
    (case,) = report.measurements
    assert case.run_seconds == (1.0, 1.1) and case.other_rounds == ((1.0, 2.0),) and not case.noisy
    assert "!" not in table(report)


def test_what_is_never_quiet_is_flagged(monkeypatch):
    seconds_of_passes(monkeypatch, 1.0, 2.0, 1.0, 1.5, 1.0, 3.0)
    report = run_bench(SMALL)
    (case,) = report.measurements
    assert case.noisy and case.run_seconds == (1.0, 1.5) and len(case.other_rounds) == 2
    assert "40%!" in table(report) and "do not rely on it" in table(report)
    assert report.to_json()["measurements"][0]["noisy"] is True


def test_spread_is_a_share_of_the_median():
    assert spread([2.0]) == 0 and spread([1.0, 2.0, 4.0]) == 1.5 and spread([1.0, 3.0]) == 1.0


def test_load_is_that_of_others_and_warned_of(monkeypatch):
    ticks = iter([1000, 1060])
    monkeypatch.setattr(noise_module, "_busy_ticks", lambda: next(ticks))
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    load = machine_load(CPU, seconds=0.2)
    assert load["busy_cores"] == 3.0 and len(load["average"]) == 3
    assert "3.0 of" in load_warning(load)
    assert load_warning({"busy_cores": 0.1, "average": [4.0, 4.0, 4.0]}) is None  # it has ended by now
    assert load_warning({"busy_cores": None, "average": [4.0, 4.0, 4.0]}) is not None
    assert load_warning(None) is None


def test_time_is_extrapolated_by_law_and_long_cases_left_out():
    limited = dataclasses.replace(SMALL, frames=(1, 2, 4000), pass_limit=1.0, rounds=1)
    report = run_bench(limited)
    assert [case.frames for case in report.measurements] == [1, 2]
    (guess,) = report.estimates
    assert (guess.method, guess.frames, guess.from_frames) == ("dense", 4000, 2)
    case = report.measurements[1]
    attention = case.attention_share * case.stage_seconds["global layers"]
    # Dense attention grows with the square, all else with the frames.
    assert guess.seconds == pytest.approx((case.seconds - attention) * 2000 + attention * 2000**2, rel=1e-6)
    assert "extrapolated from 2 frames" in table(report) and "are the limit" in table(report)
    assert report.to_json()["estimates"][0]["frames"] == 4000


def test_nothing_is_expected_of_what_never_ran():
    report = run_bench(dataclasses.replace(SMALL, rounds=1))
    from manyview.reconstruction.plan.preflight import Request

    config = sizes()["small"]
    request = Request(config, 8, 32, 40, Plan.dense(config.depth), SMALL.heads, torch.float32)
    assert expected(report, Method(Plan.frame_only(config.depth)), request) is None
    assert expected(report, Method(Plan.dense(config.depth)), request) is not None


def test_a_budget_ends_and_one_without_limits_does_not():
    assert Budget(None, None).refusal(1e9, 100) is None
    assert "limit" in Budget(None, 5).refusal(6, 1)
    assert "no time" in Budget(10, None).refusal(3, 4)
    assert Budget(10, 5).refusal(3, 2) is None and Budget(10, 5).refusal(None, 100) is None


def test_kernels_that_cannot_run_are_refused_at_once(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(UsageError):
        run_bench(dataclasses.replace(SMALL, kernels=("triton",)))
    with pytest.raises(UsageError, match="'fast'"):
        dataclasses.replace(SMALL, kernels=("fast",))
