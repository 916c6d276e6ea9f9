"""How long a case should take, from the same method on fewer frames; and whether there is time for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from ..reconstruction.plan.preflight import Request
from .figures import BenchReport, Estimate, Refusal
from .methods import Method
from .set_up import SetUp

Watcher = Callable[[BenchReport, int, int], None]

# Share of a budget that is kept for writing the figures.
_KEPT = 0.03


def expected(report: BenchReport, method: Method, request: Request) -> Estimate | None:
    """Seconds of one pass, extrapolated from the largest measured number of frames below; None without one.

    Attention grows with its operations (dense: with the square of the frames), the rest with the frames.
    """
    smaller = [case for case in report.of(method.name) if case.frames < request.views]
    if not smaller:
        return None
    case, cost = smaller[-1], request.attention_cost()
    share = case.attention_share
    if share is None:
        share = case.attention_flops / max(case.stage_flops.get("global layers", 0.0), 1.0)
    attention = share * case.stage_seconds.get("global layers", 0.0)
    before = max(case.attention_flops + case.extra_flops, 1.0)
    grown = attention * (cost.attention_flops + cost.extra_flops) / before
    rest = (case.seconds - attention) * request.views / case.frames
    return Estimate(method.name, request.views, rest + grown, case.frames)


class Budget:
    """Seconds for a whole benchmark and for one pass; None stands for no limit."""

    def __init__(self, total: float | None, one_pass: float | None) -> None:
        self._one_pass = one_pass
        # From now on: loading the model counts too.
        self._end = None if total is None else time.monotonic() + (1 - _KEPT) * total

    def refusal(self, pass_seconds: float | None, passes: int) -> str | None:
        """Why a case that takes `passes` passes of about so many seconds (None: unknown) is not run."""
        if pass_seconds is not None and self._one_pass is not None and pass_seconds > self._one_pass:
            return f"a pass would take about {pass_seconds:.0f} s, and {self._one_pass:g} s are the limit"
        if self._end is not None and time.monotonic() + (pass_seconds or 0.0) * passes > self._end:
            return "no time was left"
        return None


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
