"""Time and memory of forward passes, from uint8 images in main memory to outputs on the device."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ..attention.plan import Plan
from .expect import Budget, Watcher
from .figures import BenchReport, Measurement, Refusal
from .methods import Implementation, methods_of, plans_beside_dense
from .noise import load_warning
from .options import BenchOptions
from .set_up import set_up
from .turns import measure_together

__all__ = ["BenchReport", "Measurement", "Refusal", "run_bench"]

logger = logging.getLogger(__name__)


def run_bench(
    options: BenchOptions, watch: Watcher | None = None, implementations: Sequence[Implementation] = ()
) -> BenchReport:
    """Measure every plan at every number of frames, from few frames to many.

    A case that does not fit is recorded with the reason, and larger ones of its plan are not tried; any other
    error ends its case alone. Each method first runs once on few frames. Neither this nor loading is part of
    any figure.

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
    watch, done, total = watch or (lambda report, done, total: None), 0, len(methods) * len(frames)
    for group in [methods] if options.in_turns else [[method] for method in methods]:
        size = len(group)
        for index, count in enumerate(frames):
            watch(report, done, total)
            lost = measure_together(place, group, count, budget)
            group = [method for method in group if method not in lost]
            for more in frames[index + 1 :]:
                report.refusals += [Refusal(method.name, more, "fewer frames did not fit") for method in lost]
            done += size
    watch(report, total, total)
    return report
