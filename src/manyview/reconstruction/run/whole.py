"""One forward pass over all views, and its predictions as a `Reconstruction`."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
import torch

from ...models.network import Network, Predictions
from ..known.world import in_given_world
from ..result.masks import with_masked_sky
from ..result.result import Reconstruction
from ..result.view_validity import keep_valid, predicted_arrays, valid_views
from .assemble import assemble, measured_bytes, start_counting
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
    arrays = own_arrays(ready, predictions)
    rows = slice(None) if bool(valid.all()) else valid.numpy()  # nothing is copied if all are kept
    arrays = {name: np.ascontiguousarray(array[rows]) for name, array in arrays.items()}
    peak = measured_bytes(ready.chosen.machine.device, held)
    scene = assemble(ready, views, arrays, notes, timings, peak, comparison)
    metric = metric_of(ready, predictions, model)
    if metric is not None:
        scene = dataclasses.replace(scene, metric=metric)
    if ready.single_view is not None:
        scene = ready.single_view.onto(scene, ready.chosen.machine.device, progress)
    if ready.mask_sky:
        scene = with_masked_sky(scene)
    return scene.with_quality()


def own_arrays(ready: PreparedRun, predictions: Predictions) -> dict[str, np.ndarray]:
    """The arrays of a result of the views whose `predictions` these are: all, or those of this rank."""
    arrays = predicted_arrays(predictions)
    if ready.known is not None:
        cameras = torch.from_numpy(arrays["cam_from_world"])
        if ready.ranks is not None:  # the world and its unit are those of all cameras
            cameras = ready.ranks.gather(cameras, 0).wait()
        arrays["cam_from_world"] = cameras.numpy()
        arrays = in_given_world(arrays, ready.known.world_from_cam, predictions.cameras_given)
        arrays["cam_from_world"] = arrays["cam_from_world"][ready.own]
    arrays["images"] = ready.views.images.permute(0, 2, 3, 1).numpy()  # no copy: see `LoadedViews`
    if ready.masks is not None:
        arrays["masked"] = ready.masks.hidden(ready.own)
    return arrays


def metric_of(ready: PreparedRun, predictions: Predictions, model: Network) -> dict[str, Any] | None:
    """What the result says of its scale, if the network found one."""
    if predictions.metric_scale is None or ready.known is not None:
        return None
    return {"factor": float(predictions.metric_scale[0]), "model": model.name}
