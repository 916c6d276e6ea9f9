"""Time by stage without slowing the run: events on CUDA, the host's clock elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from ..reconstruction.plan.machine import synchronise

Timer = TypeVar("Timer", bound="StageTimer")


class StageTimer:
    """Recorder of one forward pass: when each part of a stage was done.

    On CUDA marks are events in the stream, so that the device never waits for the host; elsewhere each
    mark waits for the device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[tuple[str, Any]] = [("", self._stamp())]

    def mark(self, stage: str) -> None:
        """A part of `stage` has just been queued."""
        self._marks.append((stage, self._stamp()))

    def seconds(self) -> dict[str, float]:
        """Seconds of each stage, in order of first appearance; the device must be idle."""
        result: dict[str, float] = {}
        for (_, before), (stage, after) in zip(self._marks, self._marks[1:]):
            result[stage] = result.get(stage, 0.0) + self._between(before, after)
        return result

    def _stamp(self) -> Any:
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            return event
        synchronise(self._device)
        return time.perf_counter()

    def _between(self, before: Any, after: Any) -> float:
        if self._device.type == "cuda":
            return before.elapsed_time(after) / 1000.0
        return after - before


def timed(device: torch.device, run: Callable[[Any], object], kind: type[Timer]) -> tuple[float, Timer]:
    """Wall seconds of `run` from an idle device to an idle device, and the timer of its stages."""
    synchronise(device)
    start = time.perf_counter()
    timer = kind(device)
    run(timer)
    synchronise(device)
    return time.perf_counter() - start, timer
