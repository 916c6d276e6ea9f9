"""Thousands of views: anchors solved once, all others attached chunk by chunk, results written as they come.

Each view depends on the anchors and itself alone, so the size of a chunk changes nothing but memory.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...attention.anchor_memory import ChosenAnchors
from ...errors import MemoryLimitError, out_of_memory
from ...files.array_file import ArrayFile
from ...models.network import Network, Predictions
from ...models.precision import ConvertedWeights
from ...models.transfer import to_device
from ..plan.chunked_plan import result_shapes
from ..plan.preflight import format_gib
from ..result.masks import with_masked_sky
from ..result.result import Reconstruction
from ..result.save import save_rows
from ..result.view_validity import keep_valid, predicted_arrays, valid_views
from .anchored import encoder_features, solve_anchors
from .assemble import assemble, start_counting
from .prepare import PreparedRun
from .progress import ProgressCallback, StageClock

logger = logging.getLogger(__name__)


def run_chunked(
    ready: PreparedRun,
    model: Network,
    comparison: dict[str, Any] | None,
    folder: Path,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Reconstruction:
    """The reconstruction of `ready` in `folder`, with its arrays mapped from there.

    `ready.chosen.chunk` views are attached at a time, fewer if memory runs out. Raises OutputError and
    MemoryLimitError.
    """
    held = start_counting(ready.chosen.machine.device)

    def fill(file: ArrayFile) -> Reconstruction:
        start = time.perf_counter()
        with torch.inference_mode():
            valid, chunk, seconds = _fill(ready, model, file, progress)
        views, notes = keep_valid(ready.views.records, valid, ready.own_settings["precision"])
        file.keep(valid.numpy())
        timings = {"forward": time.perf_counter() - start, **seconds}
        if chunk != ready.chosen.chunk:
            notes = (*notes, f"memory ran out; {chunk} views at a time went through")
        scene = assemble(ready, views, file.mapped(), notes, timings, held, comparison)
        return (with_masked_sky(scene) if ready.mask_sky else scene).with_quality()

    shapes = result_shapes(ready.chosen.request, ready.masks is not None)
    return save_rows(folder, shapes, fill, overwrite, ready.settings)


def _fill(
    ready: PreparedRun, model: Network, file: ArrayFile, callback: ProgressCallback | None
) -> tuple[Tensor, int, dict[str, float]]:
    """Write all views' arrays; which views are valid, the chunk that went through, and seconds by stage."""
    chosen, images = ready.chosen, ready.views.images
    device, plan = chosen.machine.device, chosen.request.plan
    options = dataclasses.replace(chosen.options, host_outputs=True)
    count = len(images)
    clock = StageClock(device, count * (1 + plan.needs_frame_features), callback)

    def read(start: int, stop: int) -> Tensor:
        return to_device(images[start:stop], device)

    def finished(stage: str, views: int) -> None:
        clock.mark(stage, views)
        ready.views.release()

    features, weights = None, ConvertedWeights()  # converted once, for all chunks
    if plan.needs_frame_features:
        mark = functools.partial(finished, "choosing")
        features = encoder_features(model, read, count, options, mark, weights)[None]
    anchors = ChosenAnchors.of(plan, count, model.config.reference_frame, features)
    solved, predictions = solve_anchors(
        model, to_device(images[list(anchors.frames)], device), anchors, options, weights=weights
    )
    valid = torch.zeros(count, dtype=torch.bool)
    valid[list(anchors.frames)] = _write(file, anchors.frames, predictions, ready)
    del predictions
    finished("anchors", len(anchors.frames))
    done = {*anchors.frames, *file.done}
    for view, kept in file.done.items():  # of an earlier run that was interrupted
        valid[view] = kept
    others = [view for view in range(count) if view not in done]
    clock.wait()
    clock.done = clock.total - len(others)
    chunk = chosen.chunk or count
    while others:
        rows, part = others[:chunk], None
        try:
            part = solved.attach(to_device(images[rows], device))
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            if chunk == 1:
                raise MemoryLimitError(
                    f"not even one view fits beside {len(anchors.frames)} anchors of "
                    f"{format_gib(solved.memory.bytes)}; use fewer anchors, smaller images or "
                    "--precision bf16"
                ) from error
        if part is None:
            gc.collect()
            if device.type == "cuda":
                torch.cuda.empty_cache()
            chunk = max(1, min(chunk, len(others)) // 2)
            logger.warning("out of memory; %d views at a time from here on", chunk)
            continue
        valid[rows] = part_valid = _write(file, rows, part, ready)
        file.finish(rows, part_valid.tolist())
        others = others[len(rows) :]
        finished("others", len(rows))
    return valid, chunk, clock.seconds


def _write(file: ArrayFile, rows: Sequence[int], predictions: Predictions, ready: PreparedRun) -> Tensor:
    """Write the predictions for these rows; which of them are valid."""
    for name, values in predicted_arrays(predictions).items():
        file.write(name, rows, values)
    file.write("images", rows, ready.views.images[list(rows)].permute(0, 2, 3, 1).numpy())
    if ready.masks is not None:
        file.write("masked", rows, ready.masks.hidden(list(rows)))
    return valid_views(predictions)
