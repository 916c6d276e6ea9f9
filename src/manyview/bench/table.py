"""The figures as text."""

from __future__ import annotations

from .figures import STAGES, BenchReport, Measurement
from .noise import load_warning

_SHORT = {
    "frame layers": "frame",
    "global layers": "global",
    "global linears": "g linears",
    "global attention": "g attention",
}
_NOISY = "!"


def table(report: BenchReport) -> str:
    """One row per case: seconds in all and by stage, memory, operations and how far above the floor."""
    names = stage_names(report)
    edges = any(case.total_seconds != case.seconds for case in report.measurements)
    reserved = any(case.reserved_bytes is not None for case in report.measurements)
    head = ["method", "frames", "tokens", *(["total"] if edges else []), "seconds", "x dense", "spread"]
    head += [_SHORT.get(name, name.removesuffix(" head")) for name in names]
    head += ["peak MiB", *(["reserved MiB"] if reserved else []), "TFLOP", "TFLOP/s", "floor s", "x floor"]
    rows = [head]
    for case in report.measurements:
        floor, stages = report.floor_seconds(case), case.shown_stages()
        held = [f"{(case.reserved_bytes or 0) / 2**20:,.0f}"] if reserved else []
        rows.append(
            [
                case.method,
                str(case.frames),
                f"{case.tokens:,}",
                *([seconds_text(case.total_seconds)] if edges else []),
                seconds_text(case.seconds),
                over_dense(report, case),
                "once" if case.first_pass else f"{100 * case.spread:.0f}%{_NOISY if case.noisy else ''}",
                *(seconds_text(stages.get(name, 0.0)) for name in names),
                f"{case.peak_bytes / 2**20:,.0f}",
                *held,
                f"{case.flops / 1e12:.4g}",
                f"{case.flops / case.seconds / 1e12:.3g}",
                seconds_text(floor),
                f"{case.seconds / floor:.1f}",
            ]
        )
    lines = [heading(report), *aligned(rows), *remarks(report), ""]
    lines += ["floors, at the most frames of each method:", *aligned(_floors(report)), ""]
    for method in report.methods():
        largest = report.of(method)[-1]
        lines += [f"{method}, {largest.frames} frames, by stage:", *aligned(_by_stage(report, largest)), ""]
    return "\n".join([*lines, *left_out(report)]).rstrip()


def over_dense(report: BenchReport, case: Measurement) -> str:
    """Seconds as a multiple of dense attention's; "~" where those are extrapolated."""
    dense = report.dense_seconds(case)
    if dense is None:
        return "-"
    ratio = case.seconds / dense[0]
    return f"{'~' if dense[1] else ''}{ratio:.3f}" if ratio < 0.1 else f"{'~' if dense[1] else ''}{ratio:.2f}"


def remarks(report: BenchReport) -> list[str]:
    """What a reader must know of the figures above."""
    result = []
    if any(case.noisy for case in report.measurements):
        limit, rounds = report.options.quiet, report.options.rounds
        result.append(f"{_NOISY} no round of {rounds} had a spread of at most {limit:.0%}: do not rely on it")
    if any(case.first_pass for case in report.measurements):
        result.append("once: one pass only, after one on few frames, with marks inside its layers")
    if any(case.attention_share is not None for case in report.measurements):
        result.append(
            "g linears, g attention: the global layers, divided as a pass of its own was, "
            "in which marks inside the layers cost time; linears with norms and positions"
        )
    return result


def left_out(report: BenchReport) -> list[str]:
    """Cases that were not run: what they should have taken, or why."""
    lines = [
        f"{one.method}, {one.frames} frames: {seconds_text(one.seconds)} s, "
        f"extrapolated from {one.from_frames} frames (attention by its operations, the rest by frames)"
        for one in report.estimates
    ]
    return lines + [one.line() for one in report.refusals]


def _floors(report: BenchReport) -> list[list[str]]:
    head = ["method", "frames", "seconds", "products s", "traffic s", "eager s", "of products", "of both"]
    rows = [[*head, "MB/frame", "least MB/frame", "peak over least"]]
    for method in report.methods():
        case = report.of(method)[-1]
        products, fused = report.floor_seconds(case), report.traffic_seconds(case, "fused")
        slope, least = report.memory_slope(method), case.floor_bytes.get("memory")
        rows.append(
            [
                method,
                str(case.frames),
                seconds_text(case.seconds),
                seconds_text(products),
                *(_or_dash(report.traffic_seconds(case, kind), seconds_text) for kind in ("fused", "eager")),
                f"{products / case.seconds:.0%}",
                _or_dash(fused, lambda value, p=products, c=case: f"{(p + value) / c.seconds:.0%}"),
                _or_dash(slope, lambda value: f"{value / 1e6:.3g}"),
                _or_dash(least, lambda value, c=case: f"{value / c.frames / 1e6:.3g}"),
                _or_dash(least, lambda value, c=case: f"{c.peak_bytes / value:.2f}"),
            ]
        )
    return rows


def _or_dash(value: float | None, text: object) -> str:
    return "-" if value is None else text(value)  # type: ignore[operator]


def _by_stage(report: BenchReport, case: Measurement) -> list[list[str]]:
    rows = [["stage", "seconds", "share", "TFLOP", "TFLOP/s", "of matrix product"]]
    stages, flops = case.shown_stages(), case.shown_flops()
    for stage, seconds in stages.items():
        rate = flops.get(stage, 0.0) / seconds if seconds else 0.0
        counted = [f"{flops[stage] / 1e12:.4g}", f"{rate / 1e12:.3g}"] if stage in flops else ["-", "-"]
        share = f"{100 * rate / report.gemm_flops_per_s:.0f}%" if stage in flops else "-"
        rows.append(
            [stage, seconds_text(seconds), f"{100 * seconds / sum(stages.values()):.0f}%", *counted, share]
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
    """What ran where, in three lines, and a fourth if something else ran too."""
    place, model, options = report.environment, report.model, report.options
    width, height = model["image_size"]
    commit, _, changed = (place["commit"] or "").partition("+")
    revision = f", commit {commit[:12]}{' with ' + changed if changed else ''}" if commit else ""
    threads = "1 thread" if place["threads"] == 1 else f"{place['threads']} threads"
    copied = report.copy_bytes_per_s
    copying = "" if copied is None else f", copies {copied / 1e9:.3g} GB/s"
    heads = f"heads {' '.join(options.heads)} in {options.head_precision}"
    heads += ", channels last" if options.channels_last else ""
    lines = [
        f"{model['name']}: {model['parameters'] / 1e6:,.1f} M parameters, images {width}x{height} "
        f"({options.images}), {place['precision']}, {heads}",
        f"{place['device_name']}, {threads}, torch {place['torch']}, {place['attention_kernel']}, "
        f"matrix product {report.gemm_flops_per_s / 1e12:.3g} TFLOP/s{copying}{revision}",
        f"median of {options.runs} runs after {options.warmup} (1 of a pass over {options.long_pass:g} s); "
        "without loading, from uint8 images in memory to outputs; peak beside the weights",
    ]
    warning = load_warning(place.get("load"))
    return "\n".join(lines if warning is None else [*lines, warning])


def stage_names(report: BenchReport) -> list[str]:
    """Stages in the order they run."""
    ran = set().union(*(case.shown_stages() for case in report.measurements))
    return [stage for stage in STAGES if stage in ran]


def seconds_text(value: float) -> str:
    """Three digits."""
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
