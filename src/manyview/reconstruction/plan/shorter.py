"""For a run that would take long: the settings that would take less time, and how much that is."""

from __future__ import annotations

import dataclasses

from ...attention.auto import SuitedPlans, choose_plan
from .preflight import Preflight, Request, format_duration, largest

_WORTH = 0.5  # of the time, at most
_SHORT_S = 600.0


def shorter_ways(chosen: Preflight, suited: SuitedPlans | None = None) -> list[str]:
    """Options beside those of the run, each with its expected time, the best first.

    The plan that `--accel auto` would pick, if it is worth while, and fewer views. `suited`: see
    `choose_plan`.
    """
    request, seconds = chosen.request, chosen.seconds
    if seconds is None:
        return []
    per_flop = seconds / request.total_flops()

    def time_of(changed: Request) -> float:
        return per_flop * changed.total_flops()

    def views(count: int) -> Request:
        return dataclasses.replace(request, views=count)

    ways = []
    plan, _ = choose_plan(request.views, False, request.config.depth, request.layout, suited)
    faster = time_of(dataclasses.replace(request, plan=plan))
    if faster <= _WORTH * seconds:
        ways.append(f"--accel {plan} (about {format_duration(faster)})")
    fewer = largest(lambda count: time_of(views(count)) <= _SHORT_S, 2, request.views - 1)
    if fewer is not None:
        ways.append(f"--max-frames {fewer} (about {format_duration(time_of(views(fewer)))})")
    return ways
