"""One forward pass that several ranks share, each of which writes its own views into the one result."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from ...files.array_file import ArrayFile
from ...models.network import Network
from ..result.masks import with_masked_sky
from ..result.result import Reconstruction
from ..result.save import save_rows, write_part
from ..result.view_validity import keep_valid, valid_views
from .assemble import assemble, measured_bytes, start_counting
from .forward import run_forward
from .prepare import PreparedRun
from .progress import ProgressCallback
from .whole import metric_of, own_arrays


@dataclasses.dataclass(frozen=True)
class Part:
    """What a rank tells of its views when they are written; of one process it is all there is.

    `valid`: which of its views are, in their order. `seconds`: by stage. `measured`: bytes by name.
    """

    valid: list[bool] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    measured: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: tuple[str, ...] = ()


def joined(parts: Sequence[Part]) -> tuple[Bool[Tensor, " views"], Part]:
    """Which views are valid, and of all else the most that any rank took."""
    valid = [one for part in parts for one in part.valid]
    seconds: dict[str, float] = {}
    measured: dict[str, int] = {}
    for part in parts:
        for into, new in ((seconds, part.seconds), (measured, part.measured)):
            into |= {name: max(value, into.get(name, 0)) for name, value in new.items()}
    if len(parts) > 1:
        peaks = {rank: max(part.measured.values(), default=0) for rank, part in enumerate(parts)}
        measured |= {f"peak of rank {rank}": peak for rank, peak in peaks.items() if peak}
    notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
    return torch.tensor(valid, dtype=torch.bool), Part(valid, seconds, measured, notes)


def run_shared(
    ready: PreparedRun,
    model: Network,
    folder: Path,
    overwrite: bool = False,
    progress: ProgressCallback | None = None,
) -> Reconstruction | None:
    """The reconstruction of `ready` in `folder`, mapped from there, on the first rank; None on the others.

    Called by all ranks, those without views included.
    """
    everyone, device = ready.everyone, ready.chosen.machine.device
    assert everyone is not None
    held, part, metric = start_counting(device), Part(), None
    arrays: dict[str, np.ndarray] = {}
    if ready.ranks is not None:
        start = time.perf_counter()
        priors = None if ready.known is None else ready.known.priors.of_frames(ready.own)
        predictions, stages, _ = run_forward(
            model, ready.views.images, ready.chosen, progress, priors, ready.visible_plan, ready.ranks
        )
        seconds = {"forward": time.perf_counter() - start, **stages}
        arrays = own_arrays(ready, predictions)
        if ready.mask_sky and "sky" in arrays:
            arrays["masked"] = arrays["sky"] | arrays.get("masked", np.False_)
        valid, metric = valid_views(predictions).tolist(), metric_of(ready, predictions, model)
        part = Part(valid, seconds, measured_bytes(device, held))
        del predictions

    def write(file: ArrayFile) -> list[Part]:
        for name, values in arrays.items():
            file.write(name, range(ready.own.start, ready.own.stop), values)
        file.settle()
        return everyone.objects(part)

    if everyone.split.rank:
        write_part(folder, write, everyone)
        return None

    def fill(file: ArrayFile) -> Reconstruction:
        return finish(ready, file, write(file), metric=metric)

    count = len(ready.views.records)
    shapes = {name: (str(values.dtype), (count, *values.shape[1:])) for name, values in arrays.items()}
    return save_rows(folder, shapes, fill, overwrite, ranks=everyone)


def finish(
    ready: PreparedRun,
    file: ArrayFile,
    parts: Sequence[Part],
    comparison: dict[str, Any] | None = None,
    metric: dict[str, Any] | None = None,
) -> Reconstruction:
    """The result of which all views are in `file`."""
    valid, whole = joined(parts)
    views, notes = keep_valid(ready.views.records, valid, ready.own_settings["precision"])
    file.keep(valid.numpy())
    arrays, notes = file.mapped(), (*notes, *whole.notes)
    scene = assemble(ready, views, arrays, notes, whole.seconds, whole.measured, comparison)
    if metric is not None:
        scene = dataclasses.replace(scene, metric=metric)
    if ready.mask_sky and scene.sky is None:  # what there is, is masked already
        scene = with_masked_sky(scene)
    return scene.with_quality()
