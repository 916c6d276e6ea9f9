"""Plans beside dense attention as text: what each saves in operations, and whether it saves time."""

from __future__ import annotations

from .figures import BenchReport, Measurement
from .table import aligned, heading, seconds_text, table

_FEWER = 4.0


def report_text(report: BenchReport) -> str:
    """The text of bench.txt: the comparison if plans ran in turns, and the table of all cases."""
    parts = [comparison(report)] if report.options.in_turns else []
    return "\n\n".join([*parts, table(report)])


def comparison(report: BenchReport) -> str:
    """One row per plan and number of frames, then what follows, a sentence per number of frames.

    The operations are those of `Plan.cost` and the other stages; "all" includes "extra".
    """
    head = ["method", "frames", "seconds", "x dense", "attention GFLOP", "of dense", "all of dense"]
    rows = [[*head, "extra GFLOP"]]
    for frames in _frames(report):
        for case in _on(report, frames):
            dense = report.dense_beside(case)
            shares = ["-", "-", "-"]
            if dense is not None:
                attention = case.attention_flops / dense.attention_flops
                both = (case.flops + case.extra_flops) / (dense.flops + dense.extra_flops)
                shares = [f"{case.seconds / dense.seconds:.2f}", f"{attention:.1%}", f"{both:.1%}"]
            done, extra = f"{case.attention_flops / 1e9:,.3g}", f"{case.extra_flops / 1e9:,.3g}"
            first = [case.method, str(frames), seconds_text(case.seconds), shares[0], done]
            rows.append([*first, *shares[1:], extra])
    refusals = [one.line() for one in report.refusals]
    turns = "plans in turns, one pass of each after the other, on the same frames"
    return "\n".join([heading(report), turns, "", *aligned(rows), "", *sentences(report), *refusals])


def sentences(report: BenchReport) -> list[str]:
    """For each number of frames: the plans that save three quarters of attention and still no time."""
    result = []
    for frames in _frames(report):
        cases = [case for case in _on(report, frames) if case.plan != "dense"]
        pairs = [(case, dense) for case in cases if (dense := report.dense_beside(case)) is not None]
        sparing = [(c, d) for c, d in pairs if _FEWER * c.attention_flops <= d.attention_flops]
        slow = [f"{c.method} ({c.seconds / d.seconds:.2f}x)" for c, d in sparing if c.seconds >= d.seconds]
        where = f"{frames} frame{'s' * (frames != 1)}"
        fewer = f"at least {_FEWER:g}x fewer attention FLOPs than dense"
        if not pairs:
            result.append(f"{where}: nothing to compare, as only one of dense and the other plans ran.")
        elif not sparing:
            result.append(f"{where}: no plan has {fewer}.")
        elif slow:
            result.append(f"{where}: with {fewer}, and yet not faster end to end: {', '.join(slow)}.")
        else:
            names = ", ".join(case.method for case, _ in sparing)
            result.append(f"{where}: every plan with {fewer} is faster end to end ({names}).")
    return result


def _frames(report: BenchReport) -> list[int]:
    return sorted({case.frames for case in report.measurements})


def _on(report: BenchReport, frames: int) -> list[Measurement]:
    """The cases with that many frames, dense first, then the fastest."""
    cases = (case for case in report.measurements if case.frames == frames)
    return sorted(cases, key=lambda case: (case.method != "dense", case.seconds))
