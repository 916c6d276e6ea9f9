"""Plans compared in one run: on the same frames, one pass of each in turn, repeat by repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..attention.plan import Plan
from ..attention.presets import PRESETS
from ..errors import MemoryLimitError, UsageError
from .measure import BenchReport, Case, Refusal, SetUp, set_up, tidy
from .options import BenchOptions

if TYPE_CHECKING:
    from .measure import Watcher

ALL = "all"


def named_plans(specs: Sequence[str]) -> tuple[str, ...]:
    """The specs without repeats, dense first; "all" stands for frame and every preset with its defaults."""
    named = [name for spec in specs for name in (("frame", *sorted(PRESETS)) if spec == ALL else (spec,))]
    return tuple(dict.fromkeys(("dense", *named)))


def run_in_turns(options: BenchOptions, watch: Watcher | None = None) -> BenchReport:
    """Measure the plans side by side, from few frames to many; see `measure.run_bench`.

    A preset that does not go with the network is recorded with the reason; any other wrong spec raises
    UsageError before anything runs.
    """
    place = set_up(options)
    report, frames = place.report, sorted(set(options.frames))
    plans: list[Plan] = []
    refused: list[tuple[str, str]] = []
    for spec in named_plans(options.plans):
        try:
            plan = Plan.parse(spec, place.model.config.depth)
        except UsageError as error:
            if spec not in PRESETS:
                raise
            refused.append((spec, str(error)))
        else:
            if plan not in plans:
                plans.append(plan)
    report.refusals += [Refusal(spec, count, reason) for spec, reason in refused for count in frames]
    rounds = options.warmup + options.runs
    total = len(plans) * len(frames) * rounds
    for index, count in enumerate(frames):
        fitted = _one_number(place, plans, count, options, watch, index * len(plans) * rounds, total)
        lost = [plan for plan in plans if plan not in fitted]
        for more in frames[index + 1 :]:
            report.refusals += [Refusal(str(plan), more, "fewer frames did not fit") for plan in lost]
        plans = fitted
    if watch is not None:
        watch(report, total, total)
    return report


def _one_number(
    place: SetUp,
    plans: list[Plan],
    frames: int,
    options: BenchOptions,
    watch: Watcher | None,
    done: int,
    total: int,
) -> list[Plan]:
    """Measure all plans on `frames` frames; returns those that fitted, for which more may be tried."""
    report, cases = place.report, {}
    for plan in plans:
        try:
            cases[plan] = Case(place.model, place.request(plan, frames), place.device, options.seed)
        except MemoryLimitError as error:
            report.refusals.append(Refusal(str(plan), frames, str(error)))
        tidy(place.device)
    for turn in range(options.warmup + options.runs):
        for plan in list(cases):
            if watch is not None:
                watch(report, min(done, total), total)
            done += 1
            try:
                cases[plan].run(counts=turn >= options.warmup)
            except MemoryLimitError as error:
                report.refusals.append(Refusal(str(plan), frames, str(error)))
                del cases[plan]
                tidy(place.device)
    report.measurements += [case.figures() for case in cases.values()]
    return list(cases)
