"""From the chunks of a stream to one `Reconstruction`, on the disk or in memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..attention.layout import TokenLayout
from ..files.array_file import ArrayFile
from ..models.info import ModelInfo
from ..models.predictions import Predictions
from ..reconstruction.inputs.load import LoadedViews
from ..reconstruction.inputs.view_masks import read_view_masks
from ..reconstruction.inputs.views import ViewRecord
from ..reconstruction.result.arrays import ARRAY_FIELDS, array_shapes
from ..reconstruction.result.result import Reconstruction
from ..reconstruction.result.save import save_rows
from ..reconstruction.result.view_validity import keep_valid, valid_views
from ..reconstruction.run.assemble import measured_bytes, start_counting
from ..reconstruction.run.unlike_training import model_warnings
from .engine import StreamEngine
from .journal import StreamJournal


def write_result(
    journal: StreamJournal,
    folder: Path,
    cameras: tuple[Tensor, Tensor] | None,
    notes: tuple[str, ...] = (),
    info: ModelInfo | None = None,
    masks: Path | None = None,
    strict: bool = False,
) -> Reconstruction:
    """Write all frames of a stream to `folder` as `manyview reconstruct` writes its result.

    One chunk at a time is in memory. `cameras` replace those of the updates; `info` is the
    provenance of the weights. `masks` is a folder of masks, see `read_view_masks`, as is `strict`; they hide
    pixels of the result and change no camera or depth. Frames without a finite camera or depth are left out,
    with a note. Raises ManyViewError if none is left.
    """
    log = journal.log()
    frames = sum(line["frames"] for line in log)
    height, width = journal.canvas or (1, 1)
    shapes = array_shapes(frames, height, width, () if masks is None else ("masks",))

    def fill(file: ArrayFile) -> Reconstruction:
        records: list[ViewRecord] = []
        good = torch.ones(frames, dtype=torch.bool)
        for first, arrays, more in journal.parts():
            records += more
            rows = range(first, first + len(more))
            if cameras is not None:
                arrays["cam_from_world"], arrays["intrinsics"] = (x[list(rows)].numpy() for x in cameras)
            good[list(rows)] = _valid_frames(arrays)
            for name, values in arrays.items():
                file.write(name, rows, values.astype(ARRAY_FIELDS[name][0], copy=False))
        hidden = None if masks is None else read_view_masks(masks, records, strict)
        if hidden is not None:
            records = list(hidden.records)
            for row in range(frames):
                file.write("masked", [row], hidden.hidden([row]))
        views, left_out = keep_valid(records, good, journal.settings["precision"])
        file.keep(good.numpy())
        facts, more_notes = ({}, ()) if hidden is None else ({"masks": hidden.facts}, hidden.notes)
        scene = Reconstruction(
            **file.mapped(),  # type: ignore[arg-type]
            views=views,
            settings={**journal.settings, "views": len(records), **facts},
            timings_s={"forward": sum(line["seconds"] for line in log)},
            memory_bytes={"memory of the stream": max(line["memory_bytes"] for line in log)},
            notes=(*(() if info is None else info.notes), *notes, *left_out, *more_notes),
            warnings=model_warnings(info, views),
        )
        return scene.with_quality()

    return save_rows(folder, shapes, fill, overwrite=True)


def stream_views(
    views: LoadedViews, engine: StreamEngine, chunk: int, device: torch.device, settings: dict[str, Any]
) -> Reconstruction:
    """Views that are all there as a stream, `chunk` at a time, and its result in memory.

    `settings` (with `precision`) are those of the result. Cameras are the revised ones where the engine
    keeps what they need. Frames without a finite camera or depth are left out, with a note. Raises
    ManyViewError if none is left.
    """
    held = start_counting(device)
    updates = [engine.push(images) for images in views.images.split(chunk)]
    start = time.perf_counter()
    cameras = engine.cameras()
    seconds = sum(update.seconds for update in updates) + time.perf_counter() - start
    peak = max(update.memory_bytes for update in updates)
    arrays = {
        name: torch.cat([getattr(update, name) for update in updates]).numpy().astype(kind, copy=False)
        for name, (kind, *_) in ARRAY_FIELDS.items()
        if hasattr(updates[0], name)
    }
    notes = [note for update in updates for note in update.notes]
    del updates
    if cameras is not None:
        arrays["cam_from_world"], arrays["intrinsics"] = (x.double().numpy() for x in cameras)
    good = _valid_frames(arrays)
    records, left_out = keep_valid(views.records, good, settings["precision"])
    arrays["images"] = views.images.permute(0, 2, 3, 1).numpy()
    rows = slice(None) if bool(good.all()) else good.numpy()  # nothing is copied if all are kept
    return Reconstruction(
        **{name: np.ascontiguousarray(array[rows]) for name, array in arrays.items()},  # type: ignore[arg-type]
        views=records,
        settings=settings,
        timings_s={"forward": seconds},
        memory_bytes={"memory of the stream": peak, **measured_bytes(device, held)},
        notes=(*views.warnings, *notes, *left_out),
    )


def _valid_frames(arrays: Mapping[str, np.ndarray]) -> Tensor:
    frames, height, width = arrays["z_depth"].shape
    cameras = tuple(torch.from_numpy(arrays[name])[None] for name in ("cam_from_world", "intrinsics"))
    given = Predictions(height, width, TokenLayout(frames, 0, (1, 1)))
    given.z_depth, given.cameras = torch.from_numpy(arrays["z_depth"])[None], (cameras[0], cameras[1])
    return valid_views(given)


def timing_summary(log: list[dict[str, Any]]) -> list[str]:
    """Time and memory in the first and the last tenth of the chunks, in two lines."""
    if not log:
        return []
    tenth = max(1, len(log) // 10)
    times = [[line["ms_per_frame"] for line in part] for part in (log[1:][:tenth] or log, log[-tenth:])]
    sizes = [part["memory_bytes"] / 2**20 for part in (log[min(tenth, len(log) - 1)], log[-1])]
    early, late = (statistics.median(part) for part in times)
    return [
        f"per frame {early:.0f} ms at the beginning, {late:.0f} ms at the end (medians of a tenth)",
        f"memory {sizes[0]:.1f} MiB after a tenth, {sizes[1]:.1f} MiB at the end",
    ]
