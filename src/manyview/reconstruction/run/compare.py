"""Measuring a plan beside dense attention: both run, interleaved, on a sample of the user's own views."""

from __future__ import annotations

import dataclasses
import statistics
import time

import numpy as np
import torch
from torch import Tensor

from ...attention.plan import Plan
from ...errors import MemoryLimitError, UsageError
from ...files.spread import evenly_spread
from ...models.network import Network, Predictions
from ..inputs.views import ViewRecord
from ..plan.machine import synchronise
from ..plan.preflight import Preflight, Request, preflight
from ..result.view_validity import valid_views
from .comparison import MOST_VIEWS, ComparisonOptions, PassCost, PlanComparison
from .deviation import Deviation, deviation
from .forward import run_forward
from .progress import ProgressCallback

# Sizes of the sample unless the user chooses one: the most views that dense should manage in this time.
_SAMPLE_VIEWS = (24, 16, 12, 8, 6, 4, 3, 2)
_DENSE_PASS_S = 60.0
# Timed repeats; one is enough where a pass takes long.
_RUNS, _LONG_PASS_S = 3, 10.0


def sample_views(views: int, wanted: int) -> tuple[int, ...]:
    """Indices of `wanted` views (at most all), evenly spread, the first and the last among them."""
    return tuple(evenly_spread(views, wanted))


def compare_with_dense(
    model: Network,
    images: Tensor,
    records: tuple[ViewRecord, ...],
    chosen: Preflight,
    options: ComparisonOptions | None = None,
    flops_per_s: float | None = None,
    progress: ProgressCallback | None = None,
) -> PlanComparison | None:
    """Run the chosen plan and dense attention on a sample of the views; None if the plan is dense itself.

    Args:
        model: the network, on the device of `chosen`.
        images: uint8 [S, 3, H, W], of the size in `chosen.request`.
        records: one for each image.
        chosen: the run that is planned.
        options: size of the sample.
        flops_per_s: speed of the device; the sample shrinks until dense is expected to take a minute at most.
        progress: called with ("receipt", done, total).

    Raises:
        MemoryLimitError: if dense attention does not fit with the sample.
    """
    request = chosen.request
    dense = dataclasses.replace(request, plan=Plan.dense(request.config.depth))
    if request.plan == dense.plan:
        return None
    wanted = (options or ComparisonOptions()).views or _manageable_views(dense, chosen, flops_per_s)
    sample = sample_views(request.views, wanted)
    few = tuple(
        preflight(dataclasses.replace(one, views=len(sample)), chosen.machine) for one in (request, dense)
    )
    some = images[list(sample)]
    timings: tuple[list[float], list[float]] = ([], [])
    results: list[Predictions] = []
    report = progress or (lambda stage, done, total: None)
    total = 2 * (1 + _RUNS)
    runs = _RUNS
    for turn in range(1 + _RUNS):  # the first one warms up
        if turn > runs:
            break
        for which, one in enumerate(few):
            report("receipt", 2 * turn + which, total)
            pass_s, result = _timed(model, some, one)
            if turn == 0:
                results.append(result)
                runs = 1 if pass_s > _LONG_PASS_S else runs
            else:
                timings[which].append(pass_s)
    report("receipt", total, total)
    seconds, dense_seconds = map(statistics.median, timings)
    differences, lost = _deviation(results[0], results[1], [records[index] for index in sample])
    small, small_dense = (PassCost.of(one.request) for one in few)
    return PlanComparison(
        plan=str(request.plan),
        views=request.views,
        sample=sample,
        seconds=seconds,
        dense_seconds=dense_seconds,
        runs=runs,
        deviation=differences,
        lost_views=lost,
        cost=PassCost.of(request),
        dense_cost=PassCost.of(dense),
        sample_cost=small,
        dense_sample_cost=small_dense,
        break_even_views=break_even(request, seconds / small.total, dense_seconds / small_dense.total),
    )


def break_even(request: Request, seconds_per_flop: float, dense_seconds_per_flop: float) -> int | None:
    """Fewest views with which the plan is faster than dense, from the FLOPs of both; None if none."""
    dense = Plan.dense(request.config.depth)

    def faster(views: int) -> bool:
        plan = dataclasses.replace(request, views=views)
        full = dataclasses.replace(plan, plan=dense)
        return plan.total_flops() * seconds_per_flop < full.total_flops() * dense_seconds_per_flop

    low, high, most = 0, 1, max(request.views, MOST_VIEWS)
    while not faster(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if faster(middle) else (middle, high)
    return high


def _manageable_views(dense: Request, chosen: Preflight, flops_per_s: float | None) -> int:
    """The most views of the usual samples that fit with dense and should not take long; at least two."""
    for views in _SAMPLE_VIEWS:
        try:
            one = preflight(dataclasses.replace(dense, views=views), chosen.machine, flops_per_s)
        except MemoryLimitError:
            continue
        if one.seconds is None or one.seconds <= _DENSE_PASS_S:
            return views
    return _SAMPLE_VIEWS[-1]


def _timed(model: Network, images: Tensor, chosen: Preflight) -> tuple[float, Predictions]:
    device = chosen.machine.device
    synchronise(device)
    start = time.perf_counter()
    predictions, _, _ = run_forward(model, images, chosen)
    synchronise(device)
    return time.perf_counter() - start, predictions


def _deviation(found: Predictions, dense: Predictions, records: list[ViewRecord]) -> tuple[Deviation, int]:
    """The deviation on the views that are valid in both, and how many are valid only in dense."""
    if found.z_depth is None or dense.z_depth is None:
        raise UsageError("a receipt needs a network that predicts depth")
    valid, dense_valid = valid_views(found), valid_views(dense)
    both = valid & dense_valid
    content = torch.from_numpy(np.stack([record.transform.content_mask() for record in records]))
    cameras, depths = (
        [value[0].cpu()[both] for value in pair]
        for pair in ((found.cam_from_world, dense.cam_from_world), (found.z_depth, dense.z_depth))
    )
    differences = deviation(cameras[0], cameras[1], depths[0], depths[1], content[both])
    return differences, int((dense_valid & ~valid).sum())
