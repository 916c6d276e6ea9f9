"""Time and memory of VGGT-1B's size against the number of frames: targets first, dense attention last."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from manyview.bench.figures import BenchReport
from manyview.bench.measure import run_bench
from manyview.bench.options import BenchOptions, Kernels
from manyview.bench.table import aligned, seconds_text
from manyview.bench.table import table as report_table
from tools.bench.targets import targets_text
from tools.gpu_check.isolated import Case, Isolated, Tell
from tools.gpu_check.results import Results

_KEPT = 4.0  # seconds to write and end with
_ALL = (100, 300, 1000, 3000)
# Plan, kernels, numbers of frames: in the order of interest, for time runs out at some point.
_ORDER: tuple[tuple[str, Kernels, tuple[int, ...]], ...] = (
    ("spark3r", "norms", _ALL),
    ("flash", "norms", _ALL),
    ("anchors", "norms", _ALL),
    ("avggt", "norms", _ALL[:3]),
    ("dense", "norms", _ALL[:2]),
    ("spark3r", "triton", _ALL[:3]),
    ("spark3r", "plain", _ALL[:2]),
    ("httm", "triton", _ALL[:3]),
    ("fastvggt", "norms", _ALL[:3]),
    ("blocksparse", "norms", _ALL[:3]),
    ("gotohunt", "norms", _ALL[:2]),
    ("frame", "norms", _ALL[:2]),
    ("dense", "norms", (100, 1000)),
)
_TINY: tuple[tuple[str, Kernels, tuple[int, ...]], ...] = (
    ("spark3r", "plain", (2, 4)),
    ("flash", "plain", (2, 4)),
    ("dense", "plain", (2, 4)),
    ("dense", "plain", (6,)),
)


def run(results: Results, device: str, tiny: bool, end: float) -> bool:
    """Each method in a process of its own; returns whether all cases with time left have figures."""
    common = BenchOptions(
        "vggt-1b-random", size=(518, 392), head_precision="bf16", channels_last=True, device=device,
        warmup=1, runs=3, rounds=1, long_pass=1.0, single_pass=4.0, pass_limit=90.0,
    )  # fmt: skip
    if tiny:
        common = dataclasses.replace(common, model="small-random", size=(80, 64))
    cases = []
    for plan, kernels, frames in _TINY if tiny else _ORDER:
        one = dataclasses.replace(common, plans=(plan,), kernels=(kernels,), frames=frames)
        if plan == "dense" and frames[-1] == _ALL[2]:
            one = dataclasses.replace(one, pass_limit=None)  # whatever time is left
        name = f"{plan} [{kernels}], {' '.join(map(str, frames))}"
        cases.append(Case(name, measure, (one, end), 600))
    Isolated(results, end, table).run(cases, shortest=15)
    return all(case["status"].split(":")[0] in ("ok", "left out") for case in results.cases.values())


def measure(tell: Tell, options: BenchOptions, end: float) -> None:
    """`manyview bench` of one method, telling after every number of frames."""
    left = end - time.monotonic() - _KEPT
    options = dataclasses.replace(options, time_limit=max(left, 1.0))

    def watch(report: BenchReport, done: int, total: int) -> None:
        failed = [one.line() for one in report.refusals if one.failed]
        status = {"status": f"failed: {failed[0]}"} if failed else {}
        if report.measurements or report.refusals:
            text = report_table(report) if report.measurements else ""
            tell({"report": report.to_json(), "table": text, **status})

    run_bench(options, watch)


def table(results: Results) -> str:
    """Targets beside what was measured, a row for each case, then each method by stage beside its floors."""
    reports = [case["report"] for case in results.cases.values() if "report" in case]
    guesses = {
        (one["method"], one["frames"]): one["seconds"] for report in reports for one in report["estimates"]
    }
    found = {(one["method"], one["frames"]): one for report in reports for one in report["measurements"]}
    rows = [
        ["method", "frames", "seconds", "x dense", "floor s", "traffic s", "MB/frame", "GB peak", "passes"]
    ]
    for (method, frames), one in found.items():
        plain = {name: found.get((name, frames)) for name in ("dense [norms]", "dense")}
        dense = next((case["seconds"] for case in plain.values() if case is not None), None)
        mark = "" if dense is not None else "~"
        dense = dense or guesses.get(("dense [norms]", frames))
        rows.append([
            method, str(frames), seconds_text(one["seconds"]),
            "-" if dense is None else f"{mark}{one['seconds'] / dense:.3f}",
            seconds_text(one["floor_seconds"]), _or_dash(one["fused_traffic_seconds"]),
            f"{one['peak_bytes'] / frames / 1e6:.3g}", f"{one['peak_bytes'] / 1e9:.3g}",
            str(len(one["run_seconds"])),
        ])  # fmt: skip
    lines = [targets_text(reports), "", *aligned(rows), "~ dense attention extrapolated from fewer frames"]
    for (method, frames), seconds in guesses.items():
        if (method, frames) not in found:
            lines.append(f"{method}, {frames} frames: {seconds_text(seconds)} s, extrapolated")
    for name, case in results.cases.items():
        lines += ["", f"== {name}: {case['status']}", *case.get("table", "").splitlines()]
    return "\n".join(lines)


def _or_dash(value: Any) -> str:
    return "-" if value is None else seconds_text(value)
