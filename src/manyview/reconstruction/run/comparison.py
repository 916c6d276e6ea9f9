"""What an accelerated plan saves and changes beside dense attention: the numbers, and lines for a person."""

from __future__ import annotations

import dataclasses
from typing import Any

from ..._option_checks import check_options
from ...files.naming import counted
from ..plan.preflight import Request
from .deviation import Deviation

MOST_VIEWS = 4096
"""How far the break-even is looked for, beyond the user's own number of views."""


@dataclasses.dataclass(frozen=True)
class ComparisonOptions:
    """`views`: size of the sample, evenly spread with the first view (None: up to 24, as dense allows)."""

    views: int | None = None

    def __post_init__(self) -> None:
        check_options(self, at_least={"views": 1})


@dataclasses.dataclass(frozen=True)
class PassCost:
    """FLOPs of one forward pass before it runs: in all, of them in attention, and for choosing or merging."""

    total: float
    attention: float
    extra: float

    @classmethod
    def of(cls, request: Request) -> PassCost:
        cost = request.attention_cost()
        return cls(request.total_flops(), cost.attention_flops, cost.extra_flops)


@dataclasses.dataclass(frozen=True)
class PlanComparison:
    """A plan beside dense attention: measured on `sample` (indices of views), FLOPs for all `views`.

    Seconds are medians of warmed-up, interleaved forward passes. `break_even_views` is the number of views
    from which the plan is faster, from the FLOPs at the rates both reached on the sample (None: at no number
    up to some thousands). `lost_views` of the sample have a camera with dense attention and none with the
    plan; the deviation is that of the views with both.
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
        """For all views, with the plan and dense: FLOPs at the rates reached on the sample."""
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
        """JSON types, with the derived figures and the lines."""
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
        where = f"all {counted(many, 'view')}" if many == self.views else f"{many} of {self.views} views"
        share = self.cost.total / self.dense_cost.total
        attention = self.cost.attention / self.dense_cost.attention
        speed = (
            f"receipt on {where}: {self.plan} {self.seconds:.3g} s, dense {self.dense_seconds:.3g} s "
            f"({self.dense_seconds / self.seconds:.2f}x); for all {counted(self.views, 'view')} it needs "
            f"{share:.0%} of dense's operations ({attention:.0%} of those in attention)"
        )
        return (speed, f"deviation from dense: {_deviation_text(self.deviation)}", *self._caveats())

    def _caveats(self) -> tuple[str, ...]:
        many = len(self.sample)
        lines = []
        if self.lost_views:
            lines.append(f"the plan gives no camera for {self.lost_views} of {many} views where dense does")
        if not self.pays or self.saved_seconds <= 0:
            below = (
                f"with up to {max(self.views, MOST_VIEWS)} views"
                if self.break_even_views is None
                else f"below {counted(self.break_even_views, 'view')}"
            )
            verdict = "it pays only for many views" if self.pays else "it does not pay here"
            lines.append(
                f"{verdict}: {below} dense is as fast "
                f"(from operations, at the rates measured on {counted(many, 'view')})"
            )
        if many < self.views and self.sample_cost.attention >= self.dense_sample_cost.attention:
            lines.append(
                f"on only {counted(many, 'view')} this plan leaves nothing out, so the deviation says "
                f"nothing about {self.views}: sample more with --receipt-views"
            )
        return tuple(lines)


def _deviation_text(found: Deviation) -> str:
    parts = []
    if found.rotation_deg_median is not None:
        parts.append(
            f"rotation {_short(found.rotation_deg_median)}° (at most {_short(found.rotation_deg_max)}°)"
        )
    if found.translation_deg_median is not None:
        parts.append(
            f"translation direction {_short(found.translation_deg_median)}° "
            f"(at most {_short(found.translation_deg_max)}°)"
        )
    if found.depth_relative is not None:
        parts.append(f"depth {_short(100 * found.depth_relative)} %")
    if not parts:
        return "undefined, as the views have no finite cameras and depth"
    return ", ".join(parts) + "; medians over pairs of views and pixels"


def _short(value: float | None) -> str:
    """Two digits, and no more than thousandths: smaller differences are rounding."""
    if value is None or value < 0.0005:
        return "0"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
