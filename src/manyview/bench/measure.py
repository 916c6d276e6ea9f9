"""Time and memory of forward passes, from uint8 images in main memory to outputs on the device."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import logging
import statistics
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from ..attention.plan import Plan
from ..errors import MemoryLimitError, UsageError
from ..models.network import Network
from ..models.run_options import RunOptions
from ..reconstruction.forward import out_of_memory
from ..reconstruction.machine import look_at_machine, measure_flops, pick_device, pick_dtype
from ..reconstruction.preflight import Request, preflight
from .clock import timed
from .environment import describe
from .live_bytes import LiveBytes
from .options import BenchOptions
from .subject import subject

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One case. Seconds are medians of `run_seconds`; memory is beside the weights.

    `stage_seconds`: the upload of the images is part of the encoder's. `peak_bytes`: on CUDA what the
    allocator handed out, elsewhere the bytes of all live tensors (without buffers inside a kernel).
    `attention_flops` are those of `stage_flops` in global scores and weighted sums; `extra_flops`, what a
    plan spends on choosing or merging tokens, come on top.
    """

    plan: str
    frames: int
    tokens: int
    seconds: float
    run_seconds: tuple[float, ...]
    stage_seconds: dict[str, float]
    stage_flops: dict[str, float]
    peak_bytes: int
    expected_peak_bytes: int
    pieces: dict[str, int | None]
    attention_flops: float = 0.0
    extra_flops: float = 0.0

    @property
    def spread(self) -> float:
        """Longest minus shortest run, as a share of the median."""
        return (max(self.run_seconds) - min(self.run_seconds)) / self.seconds

    @property
    def flops(self) -> float:
        return sum(self.stage_flops.values())


@dataclasses.dataclass(frozen=True)
class Refusal:
    """A case that did not run, and why."""

    plan: str
    frames: int
    reason: str


@dataclasses.dataclass
class BenchReport:
    """All that was measured so far. `gemm_flops_per_s` is the device's rate for a large matrix product
    in the trunk's precision, measured beside the runs: the floor of a time is its operations at this rate.
    """

    options: BenchOptions
    model: dict[str, Any]
    environment: dict[str, Any]
    gemm_flops_per_s: float
    measurements: list[Measurement] = dataclasses.field(default_factory=list)
    refusals: list[Refusal] = dataclasses.field(default_factory=list)

    def floor_seconds(self, case: Measurement) -> float:
        """Time of the case's operations at the matrix product's rate."""
        return case.flops / self.gemm_flops_per_s

    def dense_beside(self, case: Measurement) -> Measurement | None:
        """Dense attention on as many frames, if it was measured."""
        same = (one for one in self.measurements if one.frames == case.frames)
        return next((one for one in same if one.plan == "dense"), None)

    def to_json(self) -> dict[str, Any]:
        """JSON types, with what follows from the figures spelled out."""
        cases = []
        for case in self.measurements:
            dense = self.dense_beside(case)
            derived = {
                "spread": case.spread,
                "flops": case.flops,
                "seconds_over_dense": None if dense is None else case.seconds / dense.seconds,
                "flops_per_s": case.flops / case.seconds,
                "floor_seconds": self.floor_seconds(case),
                "stage_flops_per_s": {
                    stage: flops / case.stage_seconds[stage] for stage, flops in case.stage_flops.items()
                },
            }
            cases.append({**dataclasses.asdict(case), **derived})
        return {
            "settings": dataclasses.asdict(self.options),
            "model": self.model,
            "environment": self.environment,
            "gemm_flops_per_s": self.gemm_flops_per_s,
            "measurements": cases,
            "refusals": [dataclasses.asdict(refusal) for refusal in self.refusals],
        }


Watcher = Callable[[BenchReport, int, int], None]


def run_bench(options: BenchOptions, watch: Watcher | None = None) -> BenchReport:
    """Measure every plan at every number of frames, from few frames to many.

    `watch(report, done, total)` is called before the first case and after each. A case that does not fit
    is recorded with the reason, and larger ones of its plan are not tried. Loading is not part of any
    figure. Raises UsageError or WeightsError for a model, size or plan that cannot be run at all.
    """
    if options.in_turns:
        from .turns import run_in_turns

        return run_in_turns(options, watch)
    place = set_up(options)
    report, config = place.report, place.model.config
    plans = [Plan.parse(spec, config.depth) for spec in options.plans]
    frames = sorted(set(options.frames))
    done, total = 0, len(plans) * len(frames)
    for plan in plans:
        too_large = False
        for count in frames:
            if watch is not None:
                watch(report, done, total)
            done += 1
            if too_large:
                report.refusals.append(Refusal(str(plan), count, "fewer frames did not fit"))
                continue
            request = place.request(plan, count)
            try:
                report.measurements.append(_measure(place.model, request, place.device, options))
            except MemoryLimitError as error:
                too_large = True
                report.refusals.append(Refusal(str(plan), count, str(error)))
    if watch is not None:
        watch(report, done, total)
    return report


@dataclasses.dataclass(frozen=True)
class SetUp:
    """The model under test on its device, the images' size, and a report that is still empty."""

    model: Network
    device: torch.device
    dtype: torch.dtype
    height: int
    width: int
    report: BenchReport

    def request(self, plan: Plan, frames: int) -> Request:
        heads = self.report.options.heads
        return Request(self.model.config, frames, self.height, self.width, plan, heads, self.dtype)


def set_up(options: BenchOptions) -> SetUp:
    """Load the model and look at the machine. Raises UsageError or WeightsError."""
    device = pick_device(options.device)
    dtype = pick_dtype(device, options.precision)
    model = subject(options.model, device, options.heads, options.seed)
    config = model.config
    width, height = options.size or _default_size(config.image_size, config.patch_size)
    if width % config.patch_size or height % config.patch_size:
        raise UsageError(
            f"image sides must be multiples of {config.patch_size} pixels for this model, "
            f"got {width}x{height}"
        )
    facts = {
        "name": model.name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "weights_bytes": sum(p.numel() * p.element_size() for p in model.parameters()),
        "image_size": [width, height],
    }
    environment = describe(device, dtype, config.num_heads, config.dim // config.num_heads)
    report = BenchReport(options, facts, environment, measure_flops(device, dtype, seconds=0.5))
    return SetUp(model, device, dtype, height, width, report)


class Case:
    """One plan on one number of frames: memory when it is made, then a run at a time, then the figures.

    Raises MemoryLimitError wherever memory does not suffice.
    """

    def __init__(self, model: Network, request: Request, device: torch.device, seed: int) -> None:
        self._model, self._request, self._device = model, request, device
        self._chosen = preflight(request, look_at_machine(device))
        generator = torch.Generator().manual_seed(seed)
        size = (request.views, 3, request.height, request.width)
        self._images = torch.randint(0, 256, size, dtype=torch.uint8, generator=generator)
        self._walls: list[float] = []
        self._stages: list[dict[str, float]] = []
        with self._memory():
            self._peak = _peak_bytes(model, self._images, request.plan, self._chosen.options, device)

    def run(self, counts: bool) -> None:
        """One timed pass; a warm-up does not count."""
        with self._memory(), torch.inference_mode():
            wall, parts = timed(
                self._device,
                lambda timer: self._model(
                    self._images.to(self._device), self._request.plan, self._chosen.options, timer
                ),
            )
        if counts:
            self._walls.append(wall)
            self._stages.append(parts)

    def figures(self) -> Measurement:
        request, stages = self._request, self._stages
        cost = request.attention_cost()
        return Measurement(
            plan=str(request.plan),
            frames=request.views,
            tokens=request.layout.tokens,
            seconds=statistics.median(self._walls),
            run_seconds=tuple(self._walls),
            stage_seconds={stage: statistics.median(run[stage] for run in stages) for stage in stages[0]},
            stage_flops=request.flops_by_stage(),
            peak_bytes=self._peak,
            expected_peak_bytes=self._chosen.peak_bytes,
            pieces={
                name: getattr(self._chosen.options, name)
                for name in ("frame_piece", "mlp_piece", "head_piece")
            },
            attention_flops=cost.attention_flops,
            extra_flops=cost.extra_flops,
        )

    @contextlib.contextmanager
    def _memory(self) -> Iterator[None]:
        try:
            yield
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            raise MemoryLimitError(f"memory ran out with {self._request.views} frames") from error


def _measure(model: Network, request: Request, device: torch.device, options: BenchOptions) -> Measurement:
    try:
        case = Case(model, request, device, options.seed)
        for index in range(options.warmup + options.runs):
            case.run(counts=index >= options.warmup)
        return case.figures()
    finally:
        tidy(device)


def tidy(device: torch.device) -> None:
    """Give back what a case held, so that the next one is measured on a free device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _peak_bytes(model: Network, images: Tensor, plan: Plan, run: RunOptions, device: torch.device) -> int:
    """Peak beside the weights of one pass of its own: counting bytes would slow a timed one."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        with torch.inference_mode():
            model(images.to(device), plan, run)
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    copied = 0 if device.type != "cpu" else images.numel()  # an upload is counted, what lay there is not
    with torch.no_grad(), LiveBytes() as live:
        model(images.to(device), plan, run)
    return live.peak + copied


def _default_size(image_size: int, patch_size: int) -> tuple[int, int]:
    """(width, height): the weights' own longer side, and three quarters of it, in whole patches."""
    longer = image_size // patch_size
    return longer * patch_size, round(0.75 * longer) * patch_size
