"""The figures as a picture: time by stage, and memory, against the number of frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import require_plot
from .measure import BenchReport
from .table import heading, stage_names

_COLOURS = {
    "encoder": "#4c78a8",
    "frame layers": "#72b7b2",
    "global layers": "#e45756",
    "camera head": "#b279a2",
    "depth head": "#f2b447",
    "points head": "#9d755d",
}
_HATCHES = ("", "//", "..", "xx", "\\\\", "++")


def plot(report: BenchReport, path: Path) -> None:
    """Write a PNG. Stages are stacked bars, one a plan; a black line marks the floor at the GEMM rate."""
    require_plot()
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.2), layout="constrained")
    FigureCanvasAgg(figure)
    time_axes, memory_axes = figure.subplots(1, 2)
    _draw_time(time_axes, report)
    _draw_memory(memory_axes, report)
    figure.suptitle(heading(report), fontsize=8.5, x=0.01, ha="left")
    figure.savefig(path, dpi=130, format="png")


def _draw_time(axes: Any, report: BenchReport) -> None:
    from matplotlib.patches import Patch

    plans = list(dict.fromkeys(case.plan for case in report.measurements))
    frames = sorted({case.frames for case in report.measurements})
    width = 0.8 / max(len(plans), 1)
    for case in report.measurements:
        which = plans.index(case.plan)
        x = frames.index(case.frames) + (which - (len(plans) - 1) / 2) * width
        bottom = 0.0
        for stage, seconds in case.stage_seconds.items():
            axes.bar(
                x, seconds, 0.92 * width, bottom=bottom, color=_COLOURS[stage],
                hatch=_HATCHES[which % len(_HATCHES)], edgecolor="white", linewidth=0.3,
            )  # fmt: skip
            bottom += seconds
        axes.hlines(report.floor_seconds(case), x - width / 2, x + width / 2, color="black", linewidth=1.4)
        axes.errorbar(
            x, case.seconds, [[case.seconds - min(case.run_seconds)], [max(case.run_seconds) - case.seconds]],
            color="#555555", capsize=3, linewidth=1,
        )  # fmt: skip
    axes.set_xticks(range(len(frames)), [str(count) for count in frames])
    axes.set(xlabel="frames", ylabel="seconds", title="Time by stage")
    handles = [Patch(color=_COLOURS[stage], label=stage) for stage in reversed(stage_names(report))]
    if len(plans) > 1:
        handles += [
            Patch(facecolor="#bbbbbb", edgecolor="white", hatch=_HATCHES[i % len(_HATCHES)], label=plan)
            for i, plan in enumerate(plans)
        ]
    handles += axes.plot([], [], color="black", linewidth=1.4, label="floor at the GEMM rate")
    axes.legend(handles=handles, loc="upper left", fontsize=8, frameon=False)


def _draw_memory(axes: Any, report: BenchReport) -> None:
    for plan in dict.fromkeys(case.plan for case in report.measurements):
        cases = [case for case in report.measurements if case.plan == plan]
        frames = [case.frames for case in cases]
        (line,) = axes.plot(frames, [case.peak_bytes / 2**20 for case in cases], "o-", label=plan)
        axes.plot(
            frames, [case.expected_peak_bytes / 2**20 for case in cases], "--",
            color=line.get_color(), linewidth=1, label=f"{plan}, expected",
        )  # fmt: skip
    axes.set(xlabel="frames", ylabel="MiB beside the weights", title="Peak memory")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    if report.measurements:
        axes.legend(loc="upper left", fontsize=8, frameon=False)
