"""Thousands of views: anchors solved once, all others attached chunk by chunk, results written as they come.

Each view depends on the anchors and itself alone, so the size of a chunk changes nothing but memory.
"""

from __future__ import annotations

import dataclasses
import gc
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...attention.anchor_memory import ChosenAnchors
from ...errors import MemoryLimitError
from ...files.array_file import ArrayFile
from ...models.network import Network, Predictions
from ...models.precision import use_linears
from ..plan.chunked_plan import result_shapes
from ..plan.machine import synchronise
from ..plan.preflight import gib
from ..result.io import save_spilled
from ..result.result import Reconstruction
from ..result.view_validity import leave_out, usable_views
from .anchored import encoder_features, solve_anchors
from .forward import out_of_memory
from .progress import ProgressCallback

if TYPE_CHECKING:
    from .engine import Prepared

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class _Progress:
    """Seconds by stage and views done, told to the caller."""

    total: int
    callback: ProgressCallback | None
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    done: int = 0
    last: float = dataclasses.field(default_factory=time.perf_counter)

    def book(self, stage: str, views: int) -> None:
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self.last
        self.last, self.done = now, self.done + views
        if self.callback is not None:
            self.callback("reconstruct", self.done, self.total)


def reconstruct_long(
    ready: Prepared,
    model: Network,
    folder: Path,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
    *,
    measured: Callable[[], dict[str, int]] = dict,
    timings_s: Mapping[str, float] | None = None,
    notes: tuple[str, ...] = (),
    receipt: dict[str, Any] | None = None,
) -> Reconstruction:
    """The reconstruction of `ready` in `folder`, with its arrays mapped from there.

    `ready.chosen.chunk` views are attached at a time, fewer if memory runs out. Times and notes of
    before are added to; `measured` tells memory when all is done. Raises OutputError and MemoryLimitError.
    """

    def fill(file: ArrayFile) -> Reconstruction:
        start = time.perf_counter()
        run = ready.chosen.options
        with torch.inference_mode(), use_linears(run.linears, run.keep_weights):
            good, chunk, seconds = _fill(ready, model, file, progress)
        records = ready.views.records
        left_out = leave_out(good, tuple(r.name for r in records), ready.settings["precision"])
        file.keep(good.numpy())
        timings = {"forward": time.perf_counter() - start}
        timings |= {f"forward: {stage}": value for stage, value in seconds.items()}
        told = (*notes, *left_out)
        if chunk != ready.chosen.chunk:
            told = (*told, f"memory ran out; {chunk} views at a time went through")
        return Reconstruction(
            views=tuple(r for r, usable in zip(records, good.tolist(), strict=True) if usable),
            settings=ready.settings,
            timings_s={**(timings_s or {}), **timings},
            memory_bytes=measured(),
            notes=told,
            pixel_centres=ready.settings["pixel_centres"],
            receipt=receipt,
            **file.mapped(),
        )

    return save_spilled(folder, result_shapes(ready.chosen.request), fill, overwrite, ready.settings)


def _fill(
    ready: Prepared, model: Network, file: ArrayFile, progress: ProgressCallback | None
) -> tuple[Tensor, int, dict[str, float]]:
    """Write all views' arrays; which views are usable, the chunk that went through, and seconds by stage."""
    chosen, images = ready.chosen, ready.views.images
    device, plan, options = chosen.machine.device, chosen.request.plan, chosen.options
    count = len(images)
    told = _Progress(count * (1 + plan.needs_frame_features), progress)

    def read(start: int, stop: int) -> Tensor:
        return images[start:stop].to(device)

    def booked(stage: str, views: int) -> None:
        synchronise(device)
        ready.views.let_go()
        told.book(stage, views)

    features = None
    if plan.needs_frame_features:
        features = encoder_features(model, read, count, options, lambda n: booked("choosing", n))[None]
    anchors = ChosenAnchors.of(plan, count, model.config.reference_frame, features)
    solved, answer = solve_anchors(model, images[list(anchors.frames)].to(device), anchors, options)
    good = torch.zeros(count, dtype=torch.bool)
    good[list(anchors.frames)] = _write(file, anchors.frames, answer, images)
    del answer
    booked("anchors", len(anchors.frames))
    among = {*anchors.frames, *file.done}
    for view, kept in file.done.items():  # of an earlier run that was interrupted
        good[view] = kept
    others = [view for view in range(count) if view not in among]
    told.done = told.total - len(others)
    chunk = chosen.chunk or count
    while others:
        rows, part = others[:chunk], None
        try:
            part = solved.attach(images[rows].to(device))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if chunk == 1:
                raise MemoryLimitError(
                    f"not even one view fits beside {len(anchors.frames)} anchors of "
                    f"{gib(solved.memory.bytes)}; use fewer anchors, smaller images or --precision bf16"
                ) from error
        if part is None:
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            chunk = max(1, min(chunk, len(others)) // 2)
            logger.warning("out of memory; %d views at a time from here on", chunk)
            continue
        good[rows] = usable = _write(file, rows, part, images)
        file.finish(rows, usable.tolist())
        others = others[len(rows) :]
        booked("others", len(rows))
    return good, chunk, told.seconds


def _write(file: ArrayFile, rows: Sequence[int], answer: Predictions, images: Tensor) -> Tensor:
    """Write what was said about these rows; which of them are usable."""
    good = usable_views(answer)
    for name, tensor in _arrays(answer):
        kind = np.float64 if name in ("cam_from_world", "intrinsics") else np.float32
        # Converted on the CPU: Apple's GPU has no float64.
        file.write(name, rows, tensor[0].cpu().numpy().astype(kind, copy=False))
    file.write("images", rows, images[list(rows)].permute(0, 2, 3, 1).numpy())
    return good


def _arrays(answer: Predictions) -> Iterator[tuple[str, Tensor]]:
    yield "cam_from_world", answer.cam_from_world
    yield "intrinsics", answer.intrinsics
    for name, tensor in (
        ("z_depth", answer.z_depth),
        ("depth_conf", answer.depth_conf),
        ("head_points", answer.world_points),
        ("head_points_conf", answer.world_points_conf),
    ):
        if tensor is not None:
            yield name, tensor
