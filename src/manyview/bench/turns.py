"""Methods measured on the same frames: one pass of each in turn, repeat by repeat."""

from __future__ import annotations

from ..errors import MemoryLimitError
from .expect import Budget, too_long
from .figures import Refusal
from .method_run import MethodRun, tidy
from .methods import Method
from .set_up import SetUp


def measure_together(place: SetUp, methods: list[Method], frames: int, budget: Budget) -> list[Method]:
    """Measure methods on as many frames, one pass of each in turn; returns those that did not fit."""
    report, options = place.report, place.report.options
    cases: dict[Method, MethodRun] = {}
    dropped: list[Method] = []

    def drop(method: Method, error: Exception) -> None:
        report.refusals.append(Refusal(method.name, frames, str(error)))
        dropped.append(method)
        cases.pop(method, None)
        tidy(place.device)

    def run_each(repeat: int | None) -> None:
        for method, case in list(cases.items()):
            if repeat is not None and repeat >= case.passes_of_a_round:
                continue
            try:
                case.run(counts=repeat is not None)
            except MemoryLimitError as error:
                drop(method, error)

    for method in methods:
        if too_long(place, method, frames, budget):
            continue
        try:
            request = place.request(method, frames)
            cases[method] = MethodRun(place.model, method, request, place.images(frames), options)
        except MemoryLimitError as error:
            drop(method, error)
        tidy(place.device)
    long = any(case.long for case in cases.values())
    for _ in range(0 if long else options.warmup - 1):
        run_each(None)
    for turn in range(options.rounds):
        if turn:
            for case in cases.values():
                case.begin_round()
        for repeat in range(options.runs):
            run_each(repeat)
        if all(case.spreads[-1] <= options.quiet for case in cases.values()):
            break
    # One round counts for all, or they would not have been side by side.
    worst = [max(spreads) for spreads in zip(*(case.spreads for case in cases.values()), strict=True)]
    for method, case in list(cases.items()):
        try:
            case.split()
        except MemoryLimitError as error:
            drop(method, error)
            continue
        report.measurements.append(case.figures(worst.index(min(worst)), place.edges(frames)))
    cases.clear()
    tidy(place.device)
    return dropped
