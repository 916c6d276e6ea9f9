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
from jaxtyping import UInt8
from torch import Tensor

from ...attention.anchor_memory import ChosenAnchors
from ...distributed.ranks import Ranks
from ...errors import MemoryLimitError, out_of_memory
from ...files.array_file import ArrayFile
from ...models.network import Network, Predictions
from ...models.precision import ConvertedWeights
from ...models.transfer import to_device
from ..plan.chunked_plan import result_shapes
from ..plan.preflight import format_gib
from ..result.result import Reconstruction
from ..result.save import save_rows, write_part
from ..result.view_validity import predicted_arrays, valid_views
from .anchored import encoder_features, solve_anchors
from .assemble import measured_bytes, start_counting
from .prepare import PreparedRun
from .progress import ProgressCallback, StageClock
from .shared import Part, finish

logger = logging.getLogger(__name__)


def run_chunked(
    ready: PreparedRun,
    model: Network,
    comparison: dict[str, Any] | None,
    folder: Path,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Reconstruction | None:
    """The reconstruction of `ready` in `folder`, with its arrays mapped from there.

    `ready.chosen.chunk` views are attached at a time, fewer if memory runs out. Of several ranks each solves
    the anchors, attaches its own views and writes them; the first returns the result, the others None. Raises
    OutputError and MemoryLimitError.
    """
    device, everyone = ready.chosen.machine.device, ready.everyone
    held = start_counting(device)

    def write(file: ArrayFile) -> list[Part]:
        start, part = time.perf_counter(), Part()
        if everyone is None or ready.ranks is not None:
            with torch.inference_mode():
                valid, chunk, seconds = _fill(ready, model, file, progress)
            less = f"memory ran out; {chunk} views at a time went through"
            notes = () if chunk == ready.chosen.chunk else (less,)
            seconds = {"forward": time.perf_counter() - start, **seconds}
            part = Part(valid.tolist(), seconds, measured_bytes(device, held), notes)
        if everyone is None:
            return [part]
        file.settle()
        return everyone.objects(part)

    if everyone is not None and everyone.split.rank:
        write_part(folder, write, everyone)
        return None

    def fill(file: ArrayFile) -> Reconstruction:
        return finish(ready, file, write(file), comparison)

    shapes = result_shapes(ready.chosen.request, ready.masks is not None)
    return save_rows(folder, shapes, fill, overwrite, ready.settings_by_image, everyone)


def _fill(
    ready: PreparedRun, model: Network, file: ArrayFile, callback: ProgressCallback | None
) -> tuple[Tensor, int, dict[str, float]]:
    """Write the arrays of all views, or of this rank's.

    Returns which of them are valid, the chunk that went through, and seconds by stage.
    """
    chosen, images, ranks = ready.chosen, ready.views.images, ready.ranks
    device, plan = chosen.machine.device, chosen.request.plan
    options = dataclasses.replace(chosen.options, host_outputs=True)
    count, first = len(images), ready.own.start or 0
    clock = StageClock(device, count * (1 + plan.needs_frame_features), callback)

    def read(start: int, stop: int) -> Tensor:
        return to_device(images[start:stop], device)

    def finished(stage: str, views: int) -> None:
        clock.mark(stage, views)
        ready.views.release()

    features, weights = None, ConvertedWeights()  # converted once, for all chunks
    if plan.needs_frame_features:
        mark = functools.partial(finished, "choosing")
        features = encoder_features(model, read, count, options, mark, weights, first)[None]
        features = features if ranks is None else ranks.gather(features, 1).wait()
    reference, whole = model.config.reference_frame, len(ready.views.records)
    anchors = ChosenAnchors.of(plan, whole, reference, features)
    shown = _chosen_images(images, anchors.frames, ranks)
    solved, predictions = solve_anchors(model, to_device(shown, device), anchors, options, weights=weights)
    valid = torch.zeros(count, dtype=torch.bool)
    rows = [view - first for view in anchors.frames if 0 <= view - first < count]
    valid[rows] = _write(file, anchors.frames, predictions, ready)
    del predictions
    finished("anchors", len(rows))
    # Of an earlier run that was interrupted, perhaps over other ranks.
    earlier = {view - first: kept for view, kept in file.done.items() if 0 <= view - first < count}
    for row, kept in earlier.items():
        valid[row] = kept
    done = {*rows, *earlier}
    others = [row for row in range(count) if row not in done]
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
        views = [first + row for row in rows]
        valid[rows] = part_valid = _write(file, views, part, ready)
        file.finish(views, part_valid.tolist())
        others = others[len(rows) :]
        finished("others", len(rows))
    return valid, chunk, clock.seconds


def _write(file: ArrayFile, views: Sequence[int], predictions: Predictions, ready: PreparedRun) -> Tensor:
    """Write the predictions for those of these views that are this process's; which of them are valid."""
    first, images = ready.own.start or 0, ready.views.images
    places = [place for place, view in enumerate(views) if 0 <= view - first < len(images)]
    some = slice(None) if len(places) == len(views) else places  # nothing is copied for all
    own = [views[place] for place in places]
    for name, values in predicted_arrays(predictions).items():
        file.write(name, own, values[some])
    file.write("images", own, images[[view - first for view in own]].permute(0, 2, 3, 1).numpy())
    if ready.masks is not None:
        file.write("masked", own, ready.masks.hidden(own))
    return valid_views(predictions)[some]


def _chosen_images(
    images: UInt8[Tensor, "own 3 height width"], views: Sequence[int], ranks: Ranks | None
) -> UInt8[Tensor, "chosen 3 height width"]:
    """The images of these views of the scene, on every rank."""
    if ranks is None:
        return images[list(views)]
    chosen = ranks.choose(torch.tensor([list(views)]))
    return ranks.join(images[chosen.frames], chosen).wait()[0]
