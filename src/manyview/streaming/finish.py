"""From the chunks of a stream to the `Reconstruction` that every other command takes."""

from __future__ import annotations

import statistics
from typing import Any

import numpy as np
import torch

from ..attention.layout import TokenLayout
from ..models.predictions import Predictions
from ..reconstruction.result import Reconstruction
from ..reconstruction.usable import leave_out, usable_views
from .journal import StreamJournal


def collected(
    journal: StreamJournal,
    cameras: tuple[torch.Tensor, torch.Tensor] | None,
    notes: tuple[str, ...] = (),
) -> Reconstruction:
    """All frames of a finished stream as one result; `cameras` replace those of the updates.

    Frames to which the model gave no camera or depth that is finite are left out, with a note. Raises
    ManyViewError if none is left.
    """
    arrays, records = journal.collect()
    if cameras is not None:
        arrays["cam_from_world"], arrays["intrinsics"] = (x.numpy() for x in cameras)
    frames, height, width = arrays["z_depth"].shape
    given = Predictions(
        height,
        width,
        TokenLayout(frames, 0, (1, 1)),
        z_depth=torch.from_numpy(arrays["z_depth"])[None],
        cameras=(
            torch.from_numpy(arrays["cam_from_world"])[None],
            torch.from_numpy(arrays["intrinsics"])[None],
        ),
    )
    good = usable_views(given)
    notes += leave_out(good, tuple(record.name for record in records), journal.settings["precision"])
    if not bool(good.all()):
        arrays = {name: array[good.numpy()] for name, array in arrays.items()}
        records = [record for record, usable in zip(records, good.tolist(), strict=True) if usable]
    log = journal.log()
    for name in ("cam_from_world", "intrinsics"):
        arrays[name] = arrays[name].astype(np.float64)
    fields: dict[str, Any] = dict(arrays)
    return Reconstruction(
        **fields,
        views=tuple(records),
        settings={**journal.settings, "views": len(records)},
        timings_s={"forward": sum(line["seconds"] for line in log)},
        memory_bytes={"memory of the stream": max(line["memory_bytes"] for line in log)},
        notes=notes,
    )


def told(log: list[dict[str, Any]]) -> list[str]:
    """Whether time and memory stayed flat, in two lines: the first and the last tenth of the chunks."""
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
