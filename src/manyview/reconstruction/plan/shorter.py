"""For a run that would take long: the settings that would take less time, and how much that is."""

from __future__ import annotations

import dataclasses

import torch

from ...attention.auto import ExpectedTime, SuitedPlans, choose_plan
from .device_model import device_model
from .estimate import total_seconds
from .preflight import Preflight, Request, format_duration, largest

_WORTH = 0.5  # of the time, at most
SHORT_S = 600.0


def views_within(request: Request, device: torch.device, seconds: float, most: int) -> int:
    """How many views of the request's size, at most `most` and at least 2, are expected to take `seconds`.

    By the listed rates of the device alone, so that the same machine always gives the same number; `most` for
    a device without any.
    """
    rates = device_model(device)
    if rates is None:
        return most

    def in_time(count: int) -> bool:
        return total_seconds(dataclasses.replace(request, views=count), rates) <= seconds

    return largest(in_time, 2, most) or 2


def shorter_ways(chosen: Preflight, suited: SuitedPlans | None = None) -> list[str]:
    """Options beside those of the run, each with its expected time, the best first.

    The plan that `--accel auto` would pick, if it is worth while, and fewer views. `suited`: see
    `choose_plan`.
    """
    request, seconds = chosen.request, chosen.seconds
    if seconds is None:
        return []
    rates = device_model(chosen.machine.device)

    def relative(changed: Request) -> float:
        return changed.total_flops() if rates is None else total_seconds(changed, rates)

    unit = seconds / relative(request)

    def time_of(changed: Request) -> float:
        return unit * relative(changed)

    def views(count: int) -> Request:
        return dataclasses.replace(request, views=count)

    ways = []
    expected = ExpectedTime(lambda plan: time_of(dataclasses.replace(request, plan=plan)), "estimated")
    plan, _ = choose_plan(request.views, False, request.config.depth, request.layout, suited, expected)
    faster = time_of(dataclasses.replace(request, plan=plan))
    if faster <= _WORTH * seconds:
        ways.append(f"--accel {plan} (about {format_duration(faster)})")
    fewer = largest(lambda count: time_of(views(count)) <= SHORT_S, 2, request.views - 1)
    if fewer is not None:
        ways.append(f"--max-frames {fewer} (about {format_duration(time_of(views(fewer)))})")
    return ways
