"""One forward pass over all views, and its predictions as a `Reconstruction`."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from ...models.network import Network, Predictions
from ..result.arrays import ARRAY_FIELDS
from ..result.result import Reconstruction
from ..result.view_validity import invalid_view_notes, predicted_arrays, select_views, valid_views
from .forward import run_forward
from .peak_memory import measured_bytes, start_counting
from .prepare import PreparedRun
from .progress import ProgressCallback


def run_whole(
    ready: PreparedRun,
    model: Network,
    comparison: dict[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> Reconstruction:
    """The reconstruction of `ready`; views without a finite camera or depth are left out and noted."""
    device = ready.chosen.machine.device
    held = start_counting(device)
    start = time.perf_counter()
    priors = None if ready.known is None else ready.known.priors
    predictions, stages, used = run_forward(model, ready.views.images, ready.chosen, progress, priors)
    total = time.perf_counter() - start
    timings = {**ready.timings_s, "forward": total}
    timings |= {f"forward: {stage}": seconds for stage, seconds in stages.items()}
    memory = {"expected peak": ready.chosen.peak_bytes, **measured_bytes(device, held)}
    notes = ready.notes
    if used != ready.chosen.options:
        notes = (*notes, f"memory ran out once; {used.frames_per_chunk} frames at a time went through")

    records = ready.views.records
    valid = valid_views(predictions)
    notes += invalid_view_notes(valid, tuple(r.name for r in records), ready.settings["precision"])
    images = ready.views.images if bool(valid.all()) else ready.views.images[valid]
    return Reconstruction(
        images=np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy()),
        views=tuple(record for record, kept in zip(records, valid.tolist(), strict=True) if kept),
        settings=ready.settings,
        timings_s=timings,
        memory_bytes=memory,
        notes=notes,
        pixel_centres=ready.settings["pixel_centres"],
        comparison=comparison,
        **_arrays(predictions, valid),
    )


def _arrays(predictions: Predictions, valid: torch.Tensor) -> dict[str, np.ndarray]:
    """Fields of the result; nothing is copied that has the right type and place."""
    fields = {}
    for name, tensor in predicted_arrays(predictions).items():
        # Converted on the CPU: Apple's GPU has no float64.
        kept = select_views(tensor, valid).numpy().astype(ARRAY_FIELDS[name][0], copy=False)
        fields[name] = np.ascontiguousarray(kept)
    return fields
