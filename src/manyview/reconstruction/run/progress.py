"""Following a run: what stage it is in, how far, and how long each stage took."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from ..plan.machine import synchronise

# (stage, done, total): called often, must be quick.
ProgressCallback = Callable[[str, int, int], None]

_AHEAD = 2


class StageClock:
    """Recorder of a forward pass: seconds by stage ("forward: encoder"), and parts `done` of `total`.

    On CUDA the host queues work up to `_AHEAD` marks ahead, so that the device never waits for it.
    """

    def __init__(self, device: torch.device, total: int, progress: ProgressCallback | None = None) -> None:
        self.done, self.total = 0, total
        self._device, self._progress = device, progress
        self._seconds: dict[str, float] = {}
        self._queued: deque[tuple[str, int, Any]] = deque()
        self._last = self._stamp()

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds by stage of all that was marked; waits for it."""
        self.wait()
        return self._seconds

    def wait(self) -> None:
        """Book all that is queued."""
        while self._queued:
            self._book()

    def mark(self, stage: str, parts: int = 1) -> None:
        """So many parts of `stage` are queued; their time is booked when they are done."""
        self._queued.append((stage, parts, self._stamp()))
        while len(self._queued) > (_AHEAD if self._device.type == "cuda" else 0):
            self._book()

    def _stamp(self) -> Any:
        if self._device.type != "cuda":
            synchronise(self._device)
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True, blocking=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _book(self) -> None:
        stage, parts, now = self._queued.popleft()
        if self._device.type == "cuda":
            now.synchronize()
            seconds = self._last.elapsed_time(now) / 1000.0
        else:
            seconds = now - self._last
        self._seconds[f"forward: {stage}"] = self._seconds.get(f"forward: {stage}", 0.0) + seconds
        self._last = now
        self.done += parts
        if self._progress is not None:
            self._progress("reconstruct", self.done, self.total)
