"""One forward pass over all views, and its predictions as a `Reconstruction`."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np

from ...models.network import Network
from ..known.world import in_given_world
from ..result.masks import with_masked_sky
from ..result.result import Reconstruction
from ..result.view_validity import keep_valid, predicted_arrays, valid_views
from .assemble import assemble, start_counting
from .forward import run_forward
from .prepare import PreparedRun
from .progress import ProgressCallback


def run_whole(
    ready: PreparedRun,
    model: Network,
    comparison: dict[str, Any] | None = None,
    progress: ProgressCallback | None = None,
) -> Reconstruction:
    """The reconstruction of `ready`; views without a finite camera or depth are left out and noted."""
    held = start_counting(ready.chosen.machine.device)
    start = time.perf_counter()
    priors = None if ready.known is None else ready.known.priors
    predictions, stages, used = run_forward(
        model, ready.views.images, ready.chosen, progress, priors, ready.visible_plan
    )
    timings = {"forward": time.perf_counter() - start, **stages}
    valid = valid_views(predictions)
    views, notes = keep_valid(ready.views.records, valid, ready.own_settings["precision"])
    if used != ready.chosen.options:
        notes = (f"memory ran out once; {used.frames_per_chunk} frames at a time went through", *notes)
    arrays = predicted_arrays(predictions)
    if ready.known is not None:
        arrays = in_given_world(arrays, ready.known.world_from_cam, predictions.cameras_given)
    arrays |= {"images": ready.views.images.permute(0, 2, 3, 1).numpy()}  # no copy: see `LoadedViews`
    if ready.masks is not None:
        arrays |= {"masked": ready.masks.hidden()}
    rows = slice(None) if bool(valid.all()) else valid.numpy()  # nothing is copied if all are kept
    arrays = {name: np.ascontiguousarray(array[rows]) for name, array in arrays.items()}
    scene = assemble(ready, views, arrays, notes, timings, held, comparison)
    if predictions.metric_scale is not None and ready.known is None:
        metric = {"factor": float(predictions.metric_scale[0]), "model": model.name}
        scene = dataclasses.replace(scene, metric=metric)
    if ready.single_view is not None:
        scene = ready.single_view.onto(scene, ready.chosen.machine.device, progress)
    if ready.mask_sky:
        scene = with_masked_sky(scene)
    return scene.with_quality()
