"""Following a run: what stage it is in, how far, and how long each stage took."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from ..plan.machine import synchronise

# (stage, done, total): called often, must be quick.
ProgressCallback = Callable[[str, int, int], None]


class StageClock:
    """Recorder of a forward pass: seconds by stage, and progress over all stages together."""

    def __init__(
        self, device: torch.device, counts: dict[str, int], progress: ProgressCallback | None = None
    ) -> None:
        self.seconds: dict[str, float] = {}
        self._device, self._progress = device, progress
        self._done, self._total = 0, sum(counts.values())
        self._last = time.perf_counter()

    def mark(self, stage: str) -> None:
        """A part of `stage` is queued; wait for it and book its time."""
        synchronise(self._device)
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._last
        self._last = now
        self._done += 1
        if self._progress is not None:
            self._progress("reconstruct", self._done, self._total)
