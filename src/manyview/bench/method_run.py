"""One case of a benchmark: a method on a number of frames, measured a pass at a time."""

from __future__ import annotations

import contextlib
import gc
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..errors import MemoryLimitError, out_of_memory
from ..models.network import Network
from ..reconstruction.plan.machine import inspect_machine
from ..reconstruction.plan.preflight import Request, preflight
from .clock import StageTimer, Timer, timed
from .figures import Measurement
from .floors import EAGER_UNITS, FUSED_UNITS, memory_floor_bytes, traffic_bytes
from .live_bytes import LiveBytes
from .methods import Method
from .noise import spread
from .options import BenchOptions
from .split import SplitTimer, timed_plan


class MethodRun:
    """One method on one number of frames: memory in a first pass when it is made, then a pass at a time.

    With `warm_up` no more than one pass on these images is run, and nothing measured. Raises MemoryLimitError
    wherever memory does not suffice.
    """

    def __init__(
        self,
        model: Network,
        method: Method,
        request: Request,
        images: Tensor,
        options: BenchOptions,
        warm_up: bool = False,
    ) -> None:
        self._method, self._request, self._images, self._options = method, request, images, options
        machine = inspect_machine(torch.device(next(model.parameters()).device))
        self._device = machine.device
        self._chosen = preflight(request, machine)
        self._run = self._chosen.options
        other = method.implementation
        self._model: Any = model if other is None else other.build(model)
        self._rounds: list[list[float]] = [[]]
        self._stages: list[list[dict[str, float]]] = [[]]
        self._share: float | None = None
        self.first_seconds = 0.0
        self._peak, self._reserved = 0, None
        with self._memory(), torch.inference_mode(warm_up):
            if warm_up:
                self._pass(StageTimer)
            else:
                self._peak, self._reserved = self._first_pass()

    @property
    def long(self) -> bool:
        """A pass takes so long that its first calls and its spread hardly matter."""
        return self.first_seconds > self._options.long_pass

    @property
    def passes_of_a_round(self) -> int:
        if self._first_counts:
            return 0
        return 1 if self.long else self._options.runs

    @property
    def _first_counts(self) -> bool:
        limit = self._options.single_pass
        return limit is not None and self.first_seconds > limit

    def run(self, counts: bool) -> None:
        """One timed pass; a warm-up does not count."""
        wall, parts = self._timed_pass()
        if counts:
            self._rounds[-1].append(wall)
            self._stages[-1].append(parts)

    def split(self) -> None:
        """A pass that separates attention from the rest of global layers; a long case has it already."""
        if self.long or self._first_counts:
            return
        with self._memory(), torch.inference_mode():
            self._share = self._pass(SplitTimer)[1].attention_share()

    def begin_round(self) -> None:
        """What follows is a new round of repeats."""
        self._rounds.append(list(self._rounds[0]) if self._first_counts else [])
        self._stages.append(list(self._stages[0]) if self._first_counts else [])

    @property
    def spreads(self) -> list[float]:
        """Spread of every round so far."""
        return [spread(walls) for walls in self._rounds]

    def figures(
        self, chosen: int | None = None, edges: tuple[float | None, float | None] = (None, None)
    ) -> Measurement:
        """Figures of a round (None: that with the least spread); `edges`: seconds to decode and export."""
        spreads = self.spreads
        best = spreads.index(min(spreads)) if chosen is None else chosen
        other = self._method.implementation
        request, walls, stages = self._request, self._rounds[best], self._stages[best]
        cost, bytes_each = request.attention_cost(), request.dtype.itemsize
        names = ("frames_per_chunk", "mlp_tokens_per_chunk", "head_frames_per_chunk")
        floors = {
            "fused": traffic_bytes(request.config, request.layout, bytes_each, FUSED_UNITS),
            "eager": traffic_bytes(request.config, request.layout, bytes_each, EAGER_UNITS),
            "memory": memory_floor_bytes(request.config, request.layout, bytes_each, request.heads),
        }
        return Measurement(
            plan=str(request.plan),
            frames=request.views,
            tokens=request.layout.tokens,
            seconds=statistics.median(walls),
            run_seconds=tuple(walls),
            stage_seconds={stage: statistics.median(run[stage] for run in stages) for stage in stages[0]},
            stage_flops=request.flops_by_stage(),
            peak_bytes=self._peak,
            expected_peak_bytes=self._chosen.peak_bytes,
            pieces={name: None if other else getattr(self._run, name) for name in names},
            attention_flops=cost.attention_flops,
            extra_flops=cost.extra_flops,
            kernels=self._method.kernels,
            linear_precision=self._method.linear_precision,
            implementation=other.name if other else None,
            reserved_bytes=self._reserved,
            attention_share=self._share,
            floor_bytes=floors,
            decode_seconds=edges[0],
            export_seconds=edges[1],
            other_rounds=tuple(tuple(one) for index, one in enumerate(self._rounds) if index != best),
            first_pass=self._first_counts,
            noisy=spreads[best] > self._options.quiet,
        )

    def _timed_pass(self) -> tuple[float, dict[str, float]]:
        with self._memory(), torch.inference_mode():
            wall, timer = self._pass(StageTimer)
        return wall, timer.seconds()

    def _pass(self, kind: type[Timer]) -> tuple[float, Timer]:
        """Seconds of a pass and its timer, one inside global layers if it is a SplitTimer."""

        def run(timer: Any) -> None:
            plan = self._request.plan
            if kind is SplitTimer and self._method.implementation is None:
                plan = timed_plan(plan, timer)
            self._model(self._images.to(self._device), plan, self._run, timer)

        return timed(self._device, run, kind)

    def _first_pass(self) -> tuple[int, int | None]:
        """Peak bytes beside the weights, and reserved ones; the pass is the first warm-up."""
        device = self._device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            with torch.inference_mode():
                self._note_first(*self._pass(SplitTimer))
            return torch.cuda.max_memory_allocated(device) - before, torch.cuda.max_memory_reserved(device)
        # An upload is counted, what lay in memory before is not; inference tensors cannot be followed.
        copied = 0 if device.type != "cpu" else self._images.numel()
        with torch.no_grad(), LiveBytes() as live:
            self._note_first(*self._pass(SplitTimer))
        return live.peak + copied, None

    def _note_first(self, seconds: float, inside: SplitTimer) -> None:
        self.first_seconds, self._share = seconds, inside.attention_share()
        if self._first_counts:
            self._rounds[0], self._stages[0] = [seconds], [inside.seconds()]

    @contextlib.contextmanager
    def _memory(self) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise MemoryLimitError(f"memory ran out with {self._request.views} frames") from error


def tidy(device: torch.device) -> None:
    """Give back what a case held, so that the next one is measured on a free device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
