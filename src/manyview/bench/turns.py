"""Methods measured on the same frames: one pass of each in turn, repeat by repeat."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from ..errors import MemoryLimitError
from .expect import Budget, too_long
from .figures import Refusal
from .method_run import MethodRun, tidy
from .methods import Method
from .set_up import SetUp

logger = logging.getLogger(__name__)

# Frames of the pass that compiles and loads what a method needs; some choose among frames.
_FEW = 4


def measure_together(place: SetUp, methods: list[Method], frames: int, budget: Budget) -> list[Method]:
    """Measure methods on as many frames, one pass of each in turn; returns those that did not fit.

    Any other error ends one method's case on that many frames, with its sentence among the refusals.
    """
    report, options = place.report, place.report.options
    cases: dict[Method, MethodRun] = {}
    lost: list[Method] = []

    @contextlib.contextmanager
    def alone(method: Method) -> Iterator[None]:
        try:
            yield
        except MemoryLimitError as error:
            report.refusals.append(Refusal(method.name, frames, str(error)))
            lost.append(method)
        except Exception as error:  # of any kind: the other cases still have figures
            logger.debug("%s, %d frames", method.name, frames, exc_info=True)
            report.refusals.append(Refusal(method.name, frames, one_sentence(error), failed=True))
        else:
            return
        cases.pop(method, None)
        tidy(place.device)

    def run_each(repeat: int | None) -> None:
        for method, case in list(cases.items()):
            if repeat is None or repeat < case.passes_of_a_round:
                with alone(method):
                    case.run(counts=repeat is not None)

    for method in methods:
        with alone(method):
            if too_long(place, method, frames, budget):
                continue
            warm_up(place, method, min(frames, _FEW))
            request = place.request(method, frames)
            cases[method] = MethodRun(place.model, method, request, place.images(frames), options)
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
        with alone(method):
            case.split()
            report.measurements.append(case.figures(worst.index(min(worst)), place.edges(frames)))
    cases.clear()
    tidy(place.device)
    return lost


def warm_up(place: SetUp, method: Method, frames: int) -> None:
    """One pass on few frames before a method's first case, to compile and load its kernels."""
    if method in place.warm:
        return
    options, images = place.report.options, place.images(frames)
    MethodRun(place.model, method, place.request(method, frames), images, options, warm_up=True)
    place.warm.add(method)


def one_sentence(error: Exception) -> str:
    """An error's type and the first line of what it says."""
    return f"{type(error).__name__}: {(str(error).strip() or 'no message').splitlines()[0]}"
