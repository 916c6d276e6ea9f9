"""The figures as text."""

from __future__ import annotations

from .measure import BenchReport, Measurement

_SHORT = {"frame layers": "frame", "global layers": "global"}


def table(report: BenchReport) -> str:
    """One row per case: seconds in all and by stage, memory, operations and how far above the floor."""
    names = stage_names(report)
    head = ["plan", "frames", "tokens", "seconds", "spread"]
    head += [_SHORT.get(name, name.removesuffix(" head")) for name in names]
    head += ["peak MiB", "TFLOP", "TFLOP/s", "floor s", "x floor"]
    rows = [head]
    for case in report.measurements:
        floor = report.floor_seconds(case)
        rows.append(
            [
                case.plan,
                str(case.frames),
                f"{case.tokens:,}",
                seconds_text(case.seconds),
                f"{100 * case.spread:.0f} %",
                *(seconds_text(case.stage_seconds.get(name, 0.0)) for name in names),
                f"{case.peak_bytes / 2**20:,.0f}",
                f"{case.flops / 1e12:.4g}",
                f"{case.flops / case.seconds / 1e12:.3g}",
                seconds_text(floor),
                f"{case.seconds / floor:.1f}",
            ]
        )
    lines = [heading(report), *aligned(rows), ""]
    for plan in dict.fromkeys(case.plan for case in report.measurements):
        largest = max((c for c in report.measurements if c.plan == plan), key=lambda c: c.frames)
        lines += [f"{plan}, {largest.frames} frames, by stage:", *aligned(_by_stage(report, largest)), ""]
    lines += [
        f"{refusal.plan}, {refusal.frames} frames: not run: {refusal.reason}" for refusal in report.refusals
    ]
    return "\n".join(lines).rstrip()


def _by_stage(report: BenchReport, case: Measurement) -> list[list[str]]:
    rows = [["stage", "seconds", "share", "TFLOP", "TFLOP/s", "of matrix product"]]
    for stage, seconds in case.stage_seconds.items():
        rate = case.stage_flops[stage] / seconds
        rows.append(
            [
                stage,
                seconds_text(seconds),
                f"{100 * seconds / sum(case.stage_seconds.values()):.0f} %",
                f"{case.stage_flops[stage] / 1e12:.4g}",
                f"{rate / 1e12:.3g}",
                f"{100 * rate / report.gemm_flops_per_s:.0f} %",
            ]
        )
    return rows


def aligned(rows: list[list[str]]) -> list[str]:
    """Columns of equal width: the first to the left, the others to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def heading(report: BenchReport) -> str:
    """What ran where, in three lines."""
    place, model, options = report.environment, report.model, report.options
    width, height = model["image_size"]
    commit, _, changed = (place["commit"] or "").partition("+")
    told = f", commit {commit[:12]}{' with ' + changed if changed else ''}" if commit else ""
    threads = "1 thread" if place["threads"] == 1 else f"{place['threads']} threads"
    return (
        f"{model['name']}: {model['parameters'] / 1e6:,.1f} M parameters, images {width}x{height}, "
        f"{place['precision']}, heads {' '.join(options.heads)}\n"
        f"{place['device_name']}, {threads}, torch {place['torch']}, "
        f"{place['attention_kernel']}, matrix product {report.gemm_flops_per_s / 1e12:.3g} TFLOP/s{told}\n"
        f"median of {options.runs} runs after {options.warmup}; "
        "without loading, from uint8 images in memory to outputs; peak beside the weights"
    )


def stage_names(report: BenchReport) -> list[str]:
    """Stages in the order they run."""
    names: dict[str, None] = {}
    for case in report.measurements:
        names.update(dict.fromkeys(case.stage_seconds))
    return list(names)


def seconds_text(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
