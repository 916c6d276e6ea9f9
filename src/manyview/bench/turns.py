"""Methods compared in one run: on the same frames, one pass of each in turn, repeat by repeat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..attention.methods import PRESETS
from ..attention.plan import Plan
from ..errors import MemoryLimitError, UsageError
from .case import Case, tidy
from .expect import Budget
from .figures import BenchReport, Refusal
from .methods import Method, methods_of
from .set_up import SetUp

if TYPE_CHECKING:
    from .measure import Watcher

ALL = "all"


def named_plans(specs: Sequence[str]) -> tuple[str, ...]:
    """The specs without repeats, dense first; "all" stands for frame and every preset with its defaults."""
    named = [name for spec in specs for name in (("frame", *sorted(PRESETS)) if spec == ALL else (spec,))]
    return tuple(dict.fromkeys(("dense", *named)))


def run_in_turns(place: SetUp, budget: Budget, watch: Watcher | None = None) -> BenchReport:
    """Measure the methods side by side, from few frames to many; see `measure.run_bench`.

    A preset that does not go with the network is recorded with the reason; any other wrong spec raises
    UsageError before anything runs.
    """
    report, options = place.report, place.report.options
    frames, plans = sorted(set(options.frames)), []
    for spec in named_plans(options.plans):
        try:
            plans.append(Plan.parse(spec, place.model.config.depth))
        except UsageError as error:
            if spec not in PRESETS:
                raise
            report.refusals += [Refusal(spec, count, str(error)) for count in frames]
    methods = methods_of(plans, options.kernels, options.linears, options.twin)
    total = len(methods) * len(frames)
    for index, count in enumerate(frames):
        if watch is not None:
            watch(report, index * len(methods), total)
        lost = _one_number(place, methods, count, budget)
        for more in frames[index + 1 :]:
            report.refusals += [Refusal(method.name, more, "fewer frames did not fit") for method in lost]
        methods = [method for method in methods if method not in lost]
    if watch is not None:
        watch(report, total, total)
    return report


def _one_number(place: SetUp, methods: list[Method], frames: int, budget: Budget) -> list[Method]:
    """Measure all methods on `frames` frames; returns those that did not fit."""
    from .measure import too_long

    report, options = place.report, place.report.options
    cases: dict[Method, Case] = {}
    lost: list[Method] = []

    def lose(method: Method, error: Exception) -> None:
        report.refusals.append(Refusal(method.name, frames, str(error)))
        lost.append(method)
        cases.pop(method, None)
        tidy(place.device)

    def everyone(repeat: int | None) -> None:
        for method, case in list(cases.items()):
            if repeat is not None and repeat >= case.passes_of_a_round:
                continue
            try:
                case.run(counts=repeat is not None)
            except MemoryLimitError as error:
                lose(method, error)

    for method in methods:
        if too_long(place, method, frames, budget):
            continue
        try:
            request = place.request(method, frames)
            cases[method] = Case(place.model, method, request, place.images(frames), options)
        except MemoryLimitError as error:
            lose(method, error)
        tidy(place.device)
    long = any(case.long for case in cases.values())
    for _ in range(0 if long else options.warmup - 1):
        everyone(None)
    for turn in range(options.rounds):
        if turn:
            for case in cases.values():
                case.begin_round()
        for repeat in range(options.runs):
            everyone(repeat)
        if all(case.spreads[-1] <= options.quiet for case in cases.values()):
            break
    # One round counts for all, or they would not have been side by side.
    worst = [max(spreads) for spreads in zip(*(case.spreads for case in cases.values()), strict=True)]
    for method, case in list(cases.items()):
        try:
            case.split()
        except MemoryLimitError as error:
            lose(method, error)
            continue
        report.measurements.append(case.figures(worst.index(min(worst)), place.edges(frames)))
    return lost
