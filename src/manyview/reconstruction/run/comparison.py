"""What an accelerated plan saves and costs on the user's own views: both plans run on a sample of them."""

from __future__ import annotations

import dataclasses
import statistics
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...attention.plan import Plan
from ...errors import MemoryLimitError, UsageError
from ...models.network import Network, Predictions
from ..inputs.views import ViewRecord
from ..plan.machine import synchronise
from ..plan.preflight import Preflight, Request, preflight
from ..result.view_validity import usable_views
from .deviation import Deviation, deviation
from .forward import run_forward
from .progress import ProgressCallback

NOTHING_TO_COMPARE = "the plan is dense attention itself, so a receipt has nothing to compare"
# What is sampled unless the user says how much: the most views that dense should manage in this time.
_SAMPLE_VIEWS = (24, 16, 12, 8, 6, 4, 3, 2)
_DENSE_PASS_S = 60.0
# Timed repeats; one is enough where a pass takes long.
_RUNS, _LONG_PASS_S = 3, 10.0
# How far the break-even is looked for, beyond the user's own number of views.
_MOST_VIEWS = 4096


@dataclasses.dataclass(frozen=True)
class ReceiptOptions:
    """`views`: how many to sample, evenly spread with the first (None: up to 24, as dense can manage)."""

    views: int | None = None

    def __post_init__(self) -> None:
        if self.views is not None and self.views < 1:
            raise UsageError(f"a receipt needs at least 1 view, not {self.views}")


@dataclasses.dataclass(frozen=True)
class PassCost:
    """Operations of one forward pass before anything runs: in all, and of them in attention.

    `total` counts what choosing or merging adds (`extra`).
    """

    total: float
    attention: float
    extra: float

    @classmethod
    def of(cls, request: Request) -> PassCost:
        cost = request.attention_cost()
        return cls(request.total_flops(), cost.attention_flops, cost.extra_flops)


@dataclasses.dataclass(frozen=True)
class Receipt:
    """A plan beside dense attention: measured on `sample` (indices of views), operations for all `views`.

    Seconds are medians of warmed, interleaved forward passes. `break_even_views` is the number from
    which the plan is faster, from the operations at the rates both reached on the sample (None: at no
    number up to some thousands). `lost_views` of the sample have a camera by dense and none by the plan;
    the deviation is that of the views with both.
    """

    plan: str
    views: int
    sample: tuple[int, ...]
    seconds: float
    dense_seconds: float
    runs: int
    deviation: Deviation
    lost_views: int
    cost: PassCost
    dense_cost: PassCost
    sample_cost: PassCost
    dense_sample_cost: PassCost
    break_even_views: int | None

    @property
    def saved_seconds(self) -> float:
        """Saved on the sample; negative if the plan was slower."""
        return self.dense_seconds - self.seconds

    @property
    def expected_seconds(self) -> tuple[float, float]:
        """For all views, with the plan and dense: operations at the rates reached on the sample."""
        return (
            self.seconds * self.cost.total / self.sample_cost.total,
            self.dense_seconds * self.dense_cost.total / self.dense_sample_cost.total,
        )

    @property
    def pays(self) -> bool:
        """Whether the plan is faster for all views: as measured if all were sampled, else as expected."""
        plan, dense = self.expected_seconds
        return plan < dense

    def to_json(self) -> dict[str, Any]:
        """JSON types, with what follows from the figures spelled out."""
        plan, dense = self.expected_seconds
        derived = {
            "sample": list(self.sample),
            "saved_seconds": self.saved_seconds,
            "expected_seconds_all_views": plan,
            "expected_dense_seconds_all_views": dense,
            "pays": self.pays,
            "break_even_from": "operations at the rates measured on the sample",
            "lines": list(self.lines()),
        }
        return {**dataclasses.asdict(self), **derived}

    def lines(self) -> tuple[str, ...]:
        """Two or three lines for a person."""
        many = len(self.sample)
        where = f"all {_counted(many)}" if many == self.views else f"{many} of {self.views} views"
        share = self.cost.total / self.dense_cost.total
        attention = self.cost.attention / self.dense_cost.attention
        speed = (
            f"receipt on {where}: {self.plan} {self.seconds:.3g} s, dense {self.dense_seconds:.3g} s "
            f"({self.dense_seconds / self.seconds:.2f}x); for all {_counted(self.views)} it needs "
            f"{share:.0%} of dense's operations ({attention:.0%} of those in attention)"
        )
        return (speed, f"deviation from dense: {_told(self.deviation)}", *self._when())

    def _when(self) -> tuple[str, ...]:
        many = len(self.sample)
        lines = []
        if self.lost_views:
            lines.append(f"the plan gives no camera for {self.lost_views} of {many} views where dense does")
        if not self.pays or self.saved_seconds <= 0:
            below = (
                f"with up to {max(self.views, _MOST_VIEWS)} views"
                if self.break_even_views is None
                else f"below {_counted(self.break_even_views)}"
            )
            verdict = "it pays only for many views" if self.pays else "it does not pay here"
            lines.append(
                f"{verdict}: {below} dense is as fast "
                f"(from operations, at the rates measured on {_counted(many)})"
            )
        if many < self.views and self.sample_cost.attention >= self.dense_sample_cost.attention:
            lines.append(
                f"on only {_counted(many)} this plan leaves nothing out, so the deviation says nothing about "
                f"{self.views}: sample more with --receipt-views"
            )
        return tuple(lines)


def sample_views(views: int, wanted: int) -> tuple[int, ...]:
    """Indices of `wanted` views (at most all), evenly spread, the first and the last among them."""
    spread = np.linspace(0, views - 1, min(wanted, views)).round().astype(int)
    return tuple(int(index) for index in spread)


def measure_receipt(
    model: Network,
    images: Tensor,
    records: tuple[ViewRecord, ...],
    chosen: Preflight,
    options: ReceiptOptions | None = None,
    flops_per_s: float | None = None,
    progress: ProgressCallback | None = None,
) -> Receipt | None:
    """Run the chosen plan and dense on a sample of the views; None if the plan is dense itself.

    `images` uint8 [S, 3, H, W] as `chosen` describes them; the model lies on its device. `flops_per_s`
    lets the sample shrink until dense is expected to take a minute at most. Raises MemoryLimitError if
    dense does not fit with the sample.
    """
    request = chosen.request
    dense = dataclasses.replace(request, plan=Plan.dense(request.config.depth))
    if request.plan == dense.plan:
        return None
    wanted = (options or ReceiptOptions()).views or _manageable(dense, chosen, flops_per_s)
    sample = sample_views(request.views, wanted)
    few = tuple(
        preflight(dataclasses.replace(one, views=len(sample)), chosen.machine) for one in (request, dense)
    )
    some = images[list(sample)]
    walls: tuple[list[float], list[float]] = ([], [])
    results: list[Predictions] = []
    total = 2 * (1 + _RUNS)
    runs = _RUNS
    for turn in range(1 + _RUNS):
        if turn > runs:
            break
        for which, one in enumerate(few):
            if progress is not None:
                progress("receipt", 2 * turn + which, total)
            wall, result = _timed(model, some, one)
            if turn == 0:
                results.append(result)
                runs = 1 if wall > _LONG_PASS_S else runs
            else:
                walls[which].append(wall)
    if progress is not None:
        progress("receipt", total, total)
    seconds, dense_seconds = (statistics.median(wall) for wall in walls)
    differences, lost = _deviation(results[0], results[1], [records[index] for index in sample])
    small, small_dense = (PassCost.of(one.request) for one in few)
    return Receipt(
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
    """Fewest views with which the plan is faster than dense, from the operations of both; None if none."""
    dense = Plan.dense(request.config.depth)

    def faster(views: int) -> bool:
        plan = dataclasses.replace(request, views=views)
        full = dataclasses.replace(plan, plan=dense)
        return plan.total_flops() * seconds_per_flop < full.total_flops() * dense_seconds_per_flop

    low, high, most = 0, 1, max(request.views, _MOST_VIEWS)
    while not faster(high):
        if high >= most:
            return None
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if faster(middle) else (middle, high)
    return high


def _manageable(dense: Request, chosen: Preflight, flops_per_s: float | None) -> int:
    """The most views of the usual samples that dense fits and should not take long with; at least two."""
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


def _deviation(found: Predictions, meant: Predictions, records: list[ViewRecord]) -> tuple[Deviation, int]:
    """The deviation on the views that both answered, and how many only dense did."""
    if found.z_depth is None or meant.z_depth is None:
        raise UsageError("a receipt needs a network that predicts depth")
    answered, meant_to = usable_views(found), usable_views(meant)
    both = answered & meant_to
    content = torch.from_numpy(np.stack([record.transform.content_mask() for record in records]))
    cameras, depths = (
        [value[0].cpu()[both] for value in pair]
        for pair in ((found.cam_from_world, meant.cam_from_world), (found.z_depth, meant.z_depth))
    )
    differences = deviation(cameras[0], cameras[1], depths[0], depths[1], content[both])
    return differences, int((meant_to & ~answered).sum())


def _told(found: Deviation) -> str:
    parts = []
    if found.rotation_deg_median is not None:
        parts.append(f"rotation {_few(found.rotation_deg_median)}° (at most {_few(found.rotation_deg_max)}°)")
    if found.translation_deg_median is not None:
        parts.append(
            f"translation direction {_few(found.translation_deg_median)}° "
            f"(at most {_few(found.translation_deg_max)}°)"
        )
    if found.depth_relative is not None:
        parts.append(f"depth {_few(100 * found.depth_relative)} %")
    if not parts:
        return "undefined, as the views have no finite cameras and depth"
    return ", ".join(parts) + "; medians over pairs of views and pixels"


def _counted(views: int) -> str:
    return f"{views} view{'s' * (views != 1)}"


def _few(value: float | None) -> str:
    """Two digits, and no more than thousandths: smaller differences are rounding."""
    if value is None or value < 0.0005:
        return "0"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
