"""Plans by what they cost and what they keep: one column a case, one number and colour a plan."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import require_plot
from ..runner.benchmark import CaseRows, Comparison
from ..runner.records import DENSE

_COSTS = (("attention_flops", "attention FLOPs"), ("seconds", "time of a scene"))
# Plans that lose more are marked at the lower edge, so that the others stay distinguishable.
_LOWEST = 50.0


def draw_pareto(comparison: Comparison, path: Path) -> None:
    """A PNG of AUC@30 against attention FLOPs (above) and against time (below), as shares of dense's.

    Without a dense row the axes are absolute. A line joins the plans that no other beats in both; a triangle
    at the lower edge is a plan below it.
    """
    require_plot()
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    cases = comparison.cases
    relative = all(any(row.plan == DENSE for row in one.rows) for one in cases)
    plans = list(dict.fromkeys(row.plan for one in cases for row in one.rows))
    colours = {plan: colormaps["tab20"](number % 20) for number, plan in enumerate(plans)}
    figure = Figure(figsize=(3.6 * len(cases) + 3.4, 7.4), layout="constrained")
    axes = figure.subplots(2, len(cases), sharey=True, squeeze=False)
    for column, one in enumerate(cases):
        for row, (cost, what) in enumerate(_COSTS):
            _draw_case(axes[row, column], _points(one, cost, relative), plans, colours, relative)
            axes[row, column].set_xlabel(f"{what}{', share of dense' if relative else ''}")
        axes[0, column].set_title(str(one.case), fontsize=10)
    for left in axes[:, 0]:
        left.set_ylabel("AUC@30, percent of dense" if relative else "AUC@30, percent")
    marks = [Line2D([], [], color=colours[p], marker="o", linestyle="", label=f"{n} {p}")
             for n, p in enumerate(plans)]  # fmt: skip
    figure.legend(handles=marks, loc="outside right center", fontsize=8)
    s = comparison.settings
    figure.suptitle(f"{s['benchmark']}: {s['model']}, {s['scenes']} scenes a case", fontsize=10)
    figure.savefig(path, dpi=110, format="png")


def pareto_front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points (cost, value) that no other beats in both: cheapest first, values strictly rising."""
    front: list[tuple[float, float]] = []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1])):
        if not front or y > front[-1][1]:
            front.append((x, y))
    return front


def _points(one: CaseRows, cost: str, relative: bool) -> dict[str, tuple[float, float]]:
    dense = next((row for row in one.rows if row.plan == DENSE), None)
    points = {}
    for row in one.rows:
        x, y = row.scores[cost], row.scores["auc_30"]
        if relative and dense is not None:
            share = row.retention["auc_30"]
            # Dense that scores nothing leaves nothing to keep.
            x, y = x / dense.scores[cost], 100 * share if share is not None else 0.0
        points[row.plan] = (x, y)
    return points


def _draw_case(
    axes: Any,
    points: dict[str, tuple[float, float]],
    plans: list[str],
    colours: dict[str, Any],
    relative: bool,
) -> None:
    lowest = _LOWEST if relative else 0.0
    for plan, (x, y) in points.items():
        at = (x, max(y, lowest))
        mark = "o" if y >= lowest else "v"
        axes.scatter(*at, color=colours[plan], s=26, marker=mark, clip_on=False)
        axes.annotate(str(plans.index(plan)), at, textcoords="offset points", xytext=(3, 3), fontsize=7)
    front = [(x, y) for x, y in pareto_front(list(points.values())) if y >= lowest]
    axes.plot([p[0] for p in front], [p[1] for p in front], color="0.6", linewidth=1, zorder=0)
    axes.set_xscale("log")
    axes.set_ylim(bottom=lowest)
    axes.margins(x=0.1, y=0.05)
    ticks = [t for t in (0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5) if relative]
    if ticks:
        low, high = axes.get_xlim()
        axes.set_xticks([t for t in ticks if low <= t <= high], minor=False)
        axes.set_xticks([], minor=True)
        axes.xaxis.set_major_formatter("{x:.3g}")
    axes.grid(alpha=0.3)
