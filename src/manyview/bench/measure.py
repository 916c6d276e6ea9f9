"""Time and memory of forward passes, from uint8 images in main memory to outputs on the device."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..attention.plan import Plan
from ..errors import MemoryLimitError
from .case import Case, tidy
from .expect import Budget, Watcher, too_long
from .figures import BenchReport, Measurement, Refusal
from .methods import Implementation, Method, methods_of, plans_beside_dense
from .noise import load_warning
from .options import BenchOptions
from .set_up import SetUp, set_up
from .turns import run_in_turns

__all__ = ["BenchReport", "Measurement", "Refusal", "run_bench"]

logger = logging.getLogger(__name__)


def run_bench(
    options: BenchOptions, watch: Watcher | None = None, implementations: Sequence[Implementation] = ()
) -> BenchReport:
    """Measure every plan at every number of frames, from few frames to many.

    A case that does not fit is recorded with the reason, and larger ones of its plan are not tried. Loading
    is not part of any figure.

    Args:
        options: the model, and the grid of plans and numbers of frames.
        watch: called as `watch(report, done, total)` before the first case and after each.
        implementations: other implementations of dense attention to time beside the plans.

    Returns:
        The measurements, and what was refused or extrapolated.

    Raises:
        UsageError, WeightsError: for a model, size or plan that cannot be run at all.
    """
    budget = Budget(options.time_limit, options.pass_limit)
    place = set_up(options)
    report, depth, frames = place.report, place.model.config.depth, sorted(set(options.frames))
    warning = load_warning(report.environment.get("load"))
    if warning is not None:
        logger.warning(warning)
    if options.in_turns:
        plans, refused = plans_beside_dense(options.plans, depth)
        report.refusals += [Refusal(spec, n, reason) for spec, reason in refused.items() for n in frames]
    else:
        plans = [Plan.parse(spec, depth) for spec in options.plans]
    methods = methods_of(plans, options.kernels, options.linear_precision, implementations)
    run = run_in_turns if options.in_turns else _one_by_one
    run(place, methods, frames, budget, watch or (lambda report, done, total: None))
    return report


def _one_by_one(
    place: SetUp, methods: list[Method], frames: list[int], budget: Budget, watch: Watcher
) -> None:
    total = len(methods) * len(frames)
    for index, method in enumerate(methods):
        reason: str | None = None
        for turn, count in enumerate(frames):
            watch(place.report, index * len(frames) + turn, total)
            if reason is None:
                reason = _measure(place, method, count, budget)
            else:
                place.report.refusals.append(Refusal(method.name, count, reason))
    watch(place.report, total, total)


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
