"""Methods compared in one run: on the same frames, one pass of each in turn, repeat by repeat."""

from __future__ import annotations

from ..errors import MemoryLimitError
from .case import Case, tidy
from .expect import Budget, Watcher, too_long
from .figures import Refusal
from .methods import Method
from .set_up import SetUp


def run_in_turns(
    place: SetUp, methods: list[Method], frames: list[int], budget: Budget, watch: Watcher
) -> None:
    """Measure the methods side by side, from few frames to many; see `measure.run_bench`."""
    report, total = place.report, len(methods) * len(frames)
    for index, count in enumerate(frames):
        watch(report, index * len(methods), total)
        lost = _one_number(place, methods, count, budget)
        for more in frames[index + 1 :]:
            report.refusals += [Refusal(method.name, more, "fewer frames did not fit") for method in lost]
        methods = [method for method in methods if method not in lost]
    watch(report, total, total)


def _one_number(place: SetUp, methods: list[Method], frames: int, budget: Budget) -> list[Method]:
    """Measure all methods on `frames` frames; returns those that did not fit."""
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
