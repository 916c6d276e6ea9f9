"""The `Reconstruction` of a finished run, with its times and peak memory."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from ..inputs.views import ViewRecord
from ..result.result import Reconstruction
from .prepare import PreparedRun


def assemble(
    ready: PreparedRun,
    views: tuple[ViewRecord, ...],
    arrays: Mapping[str, np.ndarray],
    notes: tuple[str, ...],
    timings_s: Mapping[str, float],
    measured: Mapping[str, int],
    comparison: dict[str, Any] | None,
) -> Reconstruction:
    """The result of `ready`: `views` and `arrays` that are kept, `measured` by `measured_bytes`."""
    return Reconstruction(
        views=views,
        settings=ready.settings,
        timings_s={**ready.timings_s, **timings_s},
        memory_bytes={"expected peak": ready.chosen.peak_bytes, **measured},
        notes=(*ready.notes, *notes),
        pixel_centres=ready.own_settings["pixel_centres"],
        comparison=comparison,
        warnings=ready.warnings,
        **arrays,  # type: ignore[arg-type]
    )


def start_counting(device: torch.device) -> int:
    """Bytes that the card holds before the pass: weights, and what else the program keeps there."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def measured_bytes(device: torch.device, held: int) -> dict[str, int]:
    """CUDA: the pass's own peak, beside the weights, as expected; else only the whole process's is known."""
    if device.type == "cuda":
        return {"measured peak": torch.cuda.max_memory_allocated(device) - held}
    try:
        import resource
    except ImportError:  # not on Windows
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak of the whole process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
