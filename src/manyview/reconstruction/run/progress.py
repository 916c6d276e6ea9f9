"""Following a run: what stage it is in, how far, and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ..plan.machine import synchronise

# (stage, done, total): called often, must be quick.
ProgressCallback = Callable[[str, int, int], None]


class StageClock:
    """Recorder of a forward pass: seconds by stage ("forward: encoder"), and parts `done` of `total`."""

    def __init__(self, device: torch.device, total: int, progress: ProgressCallback | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self.done, self.total = 0, total
        self._device, self._progress = device, progress
        self._last = time.perf_counter()

    def mark(self, stage: str, parts: int = 1) -> None:
        """So many parts of `stage` are queued; wait for them and book their time."""
        synchronise(self._device)
        now = time.perf_counter()
        self.seconds[f"forward: {stage}"] = self.seconds.get(f"forward: {stage}", 0.0) + now - self._last
        self._last = now
        self.done += parts
        if self._progress is not None:
            self._progress("reconstruct", self.done, self.total)
