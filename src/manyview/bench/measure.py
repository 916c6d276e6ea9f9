"""Time and memory of forward passes, from uint8 images in main memory to outputs on the device."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ..attention.plan import Plan
from ..errors import MemoryLimitError
from .case import Case, tidy
from .expect import Budget, expected
from .figures import BenchReport, Estimate, Measurement, Refusal
from .methods import Method, methods_of
from .noise import load_warning
from .options import BenchOptions
from .set_up import SetUp, set_up

__all__ = ["BenchReport", "Estimate", "Measurement", "Refusal", "Watcher", "run_bench"]

logger = logging.getLogger(__name__)

Watcher = Callable[[BenchReport, int, int], None]


def run_bench(options: BenchOptions, watch: Watcher | None = None) -> BenchReport:
    """Measure every plan at every number of frames, from few frames to many.

    `watch(report, done, total)` is called before the first case and after each. A case that does not fit
    is recorded with the reason, and larger ones of its plan are not tried. Loading is not part of any
    figure. Raises UsageError or WeightsError for a model, size or plan that cannot be run at all.
    """
    budget = Budget(options.time_limit, options.pass_limit)
    place = set_up(options)
    warning = load_warning(place.report.environment.get("load"))
    if warning is not None:
        logger.warning(warning)
    if options.in_turns:
        from .turns import run_in_turns

        return run_in_turns(place, budget, watch)
    report, depth = place.report, place.model.config.depth
    methods = methods_of(
        (Plan.parse(spec, depth) for spec in options.plans), options.kernels, options.linears, options.twin
    )
    frames = sorted(set(options.frames))
    done, total = 0, len(methods) * len(frames)
    for method in methods:
        reason: str | None = None
        for count in frames:
            if watch is not None:
                watch(report, done, total)
            done += 1
            if reason is None:
                reason = _measure(place, method, count, budget)
            else:
                report.refusals.append(Refusal(method.name, count, reason))
    if watch is not None:
        watch(report, done, total)
    return report


def too_long(place: SetUp, method: Method, frames: int, budget: Budget) -> bool:
    """Whether there is no time for a case; then it is recorded, with the seconds it should have taken."""
    report, options = place.report, place.report.options
    guess = expected(report, method, place.request(method, frames))
    seconds = None if guess is None else guess.seconds
    passes = 1 + options.warmup + options.runs
    if seconds is not None and options.single_pass is not None and seconds > options.single_pass:
        passes = 1
    elif seconds is not None and seconds > options.long_pass:
        passes = 2
    reason = budget.refusal(seconds, passes)
    if reason is None:
        return False
    if guess is not None:
        report.estimates.append(guess)
    report.refusals.append(Refusal(method.name, frames, reason))
    return True


def _measure(place: SetUp, method: Method, frames: int, budget: Budget) -> str | None:
    """Measure one case; returns why more frames of the same method need not be tried."""
    report, options = place.report, place.report.options
    if too_long(place, method, frames, budget):
        return None  # each larger case is extrapolated too
    try:
        case = Case(place.model, method, place.request(method, frames), place.images(frames), options)
        for _ in range(0 if case.long else options.warmup - 1):
            case.run(counts=False)
        for turn in range(options.rounds):
            if turn:
                case.begin_round()
            for _ in range(case.passes_of_a_round):
                case.run(counts=True)
            if min(case.spreads) <= options.quiet:
                break
        case.split()
        report.measurements.append(case.figures(edges=place.edges(frames)))
    except MemoryLimitError as error:
        report.refusals.append(Refusal(method.name, frames, str(error)))
        return "fewer frames did not fit"
    finally:
        tidy(place.device)
    return None
