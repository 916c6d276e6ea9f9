"""The figures as a plot: seconds against frames with floors, seconds by stage, and memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..errors import require_plot
from .figures import BenchReport
from .table import heading, stage_names

_COLOURS = {
    "decode": "#bab0ac",
    "encoder": "#4c78a8",
    "frame layers": "#72b7b2",
    "global layers": "#e45756",
    "global linears": "#ff9d98",
    "global attention": "#e45756",
    "camera head": "#b279a2",
    "depth head": "#f2b447",
    "points head": "#9d755d",
    "export": "#79706e",
}
_HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--", "**", "||")


def plot(report: BenchReport, path: Path) -> None:
    """Write a PNG with three panels: time of every method, its stages stacked, and peak memory."""
    require_plot()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(19, 5.6), layout="constrained")
    time_axes, stage_axes, memory_axes = figure.subplots(1, 3, width_ratios=(1, 1.3, 1))
    _draw_time(time_axes, report)
    _draw_stages(stage_axes, report)
    _draw_memory(memory_axes, report)
    figure.suptitle(heading(report), fontsize=8.5, x=0.01, ha="left")
    figure.savefig(path, dpi=130, format="png")


def _draw_time(axes: Any, report: BenchReport) -> None:
    """Both axes logarithmic: dense attention's slope turns from one to two. Noisy cases are hollow."""
    for method in report.methods():
        cases = report.of(method)
        frames = [case.frames for case in cases]
        (line,) = axes.plot(frames, [case.seconds for case in cases], label=method, linewidth=1.4)
        colour = line.get_color()
        for case in cases:
            axes.plot(
                [case.frames], [case.seconds], "o",
                color=colour, markerfacecolor="white" if case.noisy else colour, markersize=5,
            )  # fmt: skip
        floors = [report.floor_seconds(case) for case in cases]
        axes.plot(frames, floors, ":", color=colour, linewidth=1)
        guessed = [one for one in report.estimates if one.method == method]
        if guessed and cases:
            axes.plot(
                [frames[-1], *(one.frames for one in guessed)],
                [cases[-1].seconds, *(one.seconds for one in guessed)],
                "--x", color=colour, linewidth=1,
            )  # fmt: skip
    axes.plot([], [], ":", color="black", linewidth=1, label="its products at the GEMM rate")
    if report.estimates:
        axes.plot([], [], "--x", color="black", linewidth=1, label="extrapolated")
    if any(case.noisy for case in report.measurements):
        axes.plot([], [], "o", color="black", markerfacecolor="white", label="noisy")
    if report.measurements:
        axes.set(xscale="log", yscale="log")
        counts = sorted({c.frames for c in report.measurements} | {e.frames for e in report.estimates})
        axes.set_xticks(counts, [str(count) for count in counts], minor=False)
        axes.set_xticks([], minor=True)
        low, high = axes.get_ylim()
        axes.set_ylim(low, high * (high / low) ** 0.4)  # room for the legend
    axes.set(xlabel="frames", ylabel="seconds", title="Time and floor")
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", fontsize=8, frameon=False)


def _draw_stages(axes: Any, report: BenchReport) -> None:
    """Stacked bars, one a method; a black line marks the floor at the GEMM rate."""
    from matplotlib.patches import Patch

    methods = report.methods()
    frames = sorted({case.frames for case in report.measurements})
    width = 0.8 / max(len(methods), 1)
    for case in report.measurements:
        which = methods.index(case.method)
        x = frames.index(case.frames) + (which - (len(methods) - 1) / 2) * width
        bottom = 0.0
        # Shares of a frame count's slowest bar: absolute seconds would hide all but the most frames.
        scale = max(c.total_seconds for c in report.measurements if c.frames == case.frames)
        for stage, seconds in case.shown_stages().items():
            axes.bar(
                x, seconds / scale, 0.92 * width, bottom=bottom, color=_COLOURS[stage],
                hatch=_HATCHES[which % len(_HATCHES)], edgecolor="white", linewidth=0.3,
            )  # fmt: skip
            bottom += seconds / scale
        floor = report.floor_seconds(case) / scale
        axes.hlines(floor, x - width / 2, x + width / 2, color="black", linewidth=1.4)
    axes.set_xticks(range(len(frames)), [str(count) for count in frames])
    axes.set(xlabel="frames", ylabel="of the slowest method", title="Time by stage", ylim=(0, 1.45))
    handles = [Patch(color=_COLOURS[stage], label=stage) for stage in reversed(stage_names(report))]
    if len(methods) > 1:
        handles += [
            Patch(facecolor="#bbbbbb", edgecolor="white", hatch=_HATCHES[i % len(_HATCHES)], label=method)
            for i, method in enumerate(methods)
        ]
    handles += axes.plot([], [], color="black", linewidth=1.4, label="products at the GEMM rate")
    axes.legend(handles=handles, loc="upper left", fontsize=7, frameon=False, ncols=3)


def _draw_memory(axes: Any, report: BenchReport) -> None:
    for method in report.methods():
        cases = report.of(method)
        frames, slope = [case.frames for case in cases], report.memory_slope(method)
        label = method if slope is None else f"{method}: {slope / 1e6:.3g} MB a frame"
        (line,) = axes.plot(frames, [case.peak_bytes / 2**20 for case in cases], "o-", label=label)
        if any(case.implementation for case in cases):
            continue  # preflight expects nothing of another implementation
        axes.plot(
            frames, [case.expected_peak_bytes / 2**20 for case in cases], "--",
            color=line.get_color(), linewidth=1,
        )  # fmt: skip
    floors = {
        case.frames: case.floor_bytes["memory"] / 2**20 for case in report.measurements if case.floor_bytes
    }
    if floors:
        axes.plot(sorted(floors), [floors[n] for n in sorted(floors)], ":", color="black", label="least")
    axes.plot([], [], "--", color="black", linewidth=1, label="expected before the run")
    axes.set(xlabel="frames", ylabel="MiB beside the weights", title="Peak memory")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.25)
    axes.legend(loc="upper left", fontsize=8, frameon=False)
