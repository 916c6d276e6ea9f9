"""The benchmark as files (results.json, table.md and pareto.png), and the quick table as text."""

from __future__ import annotations

from pathlib import Path

from ...files.writing import atomic_file, output_errors, write_files
from ..runner.benchmark import CaseRow, Comparison
from ..runner.synthetic import SyntheticTable
from .markdown import AREAS, FOCAL, fixed, measured_on, percent, table
from .pareto import draw_pareto

FILES = ("results.json", "table.md", "pareto.png")
_HEAD = (
    *("plan", "AUC@3 exact", "AUC@3", "AUC@5", "AUC@15", "AUC@30", "keeps AUC@5 / @30", "rot deg"),
    *("dir deg", "focal %", "ATE", "AbsRel", "Acc", "Comp", "conf (least)", "abs. conf, 1/z (least)"),
    *("attn GFLOPs", "s/scene"),
)


def write_benchmark(comparison: Comparison, folder: Path, command: str, plot: bool = True) -> list[Path]:
    """Write the files of the benchmark, each whole or not at all; `command` made it."""
    result = {"command": command, **comparison.to_json()}
    paths = write_files(folder, {FILES[0]: result, FILES[1]: benchmark_table(comparison, command)})
    if plot:
        paths.append(folder / FILES[2])
        with output_errors(paths[-1], 1 << 20), atomic_file(paths[-1]) as part:
            draw_pareto(comparison, part)
    return paths


def benchmark_table(comparison: Comparison, command: str = "") -> str:
    """The figures in Markdown, one table a case, with what is needed to read and repeat them."""
    s = comparison.settings
    lines = [
        f"# {s['benchmark']}: {s['model']}, {s['scenes']} scenes a case, {s['height']}x{s['width']} px",
        "",
        f"{measured_on(s, str(s['environment']['threads']) + ' threads')}.",
        "",
        *([f"`{command}`", ""] if command else []),
    ]
    for one in comparison.cases:
        note = "" if one.case.listed else " (not one of the benchmark's own cases)"
        lines += [f"## {one.case}{note}", "", *table(_HEAD, [_cells(row) for row in one.rows]), ""]
        lines += [line for said in one.notes for line in (f"{said}.", "")]
    lines += [
        f"AUC of relative poses in percent; {AREAS}; {FOCAL}; ATE, Acc and Comp in units of a scene's median "
        "depth; conf is the area under the sparsification curve of relative depth errors (1 knows nothing) "
        "and the least possible, abs. conf that of absolute errors beside 1/z taken for confidence; attn "
        "GFLOPs are the scores and weighted sums of the global layers; s/scene is the median forward pass.",
        "",
    ]
    return "\n".join(lines)


def _cells(row: CaseRow) -> list[str]:
    own = row.scores
    return [
        f"`{row.plan}`",
        fixed(own.get("auc_integral_3"), ".1f"),
        *(fixed(own[f"auc_{t}"], ".1f") for t in (3, 5, 15, 30)),
        f"{percent(row.retention['auc_5'])} / {percent(row.retention['auc_30'])}",
        *(fixed(own[f"{name}_median_deg"], ".1f") for name in ("rotation", "translation")),
        fixed(own.get("focal_error"), ".1f"),
        *(fixed(own[name], ".3f") for name in ("ate", "abs_rel", "accuracy", "completeness")),
        f"{own['confidence_area']:.2f} ({own['confidence_oracle']:.2f})",
        f"{own['confidence_absolute_area']:.2f}, {own['confidence_absolute_inverse_depth']:.2f} "
        f"({own['confidence_absolute_oracle']:.2f})",
        fixed(own["attention_flops"], ".3g", 1e-9),
        fixed(own["seconds"], ".3g"),
    ]


def synthetic_table(synthetic: SyntheticTable) -> str:
    """The quick table as aligned text."""
    width = max(len(name) for name in synthetic.rows)
    lines = [
        f"{'':{width}}  AUC@5  exact  AUC@15  AUC@30  rot deg  dir deg  focal %  AbsRel  d<1.25  conf  "
        "abs.conf"
    ]
    for name, row in synthetic.rows.items():
        excess, absolute = (
            "" if value is None else f"{value:.2f}"
            for value in (row["confidence_excess"], row["confidence_absolute_excess"])
        )
        lines.append(
            f"{name:{width}}  {row['auc_5']:5.1f}  {row['auc_integral_5']:5.1f}  {row['auc_15']:6.1f}  "
            f"{row['auc_30']:6.1f}  {row['rotation_median_deg']:7.1f}  {row['translation_median_deg']:7.1f}  "
            f"{fixed(row['focal_error'], '7.1f'):>7}  "
            f"{row['abs_rel']:6.3f}  {row['delta_125']:6.1f}  {excess:>4}  {absolute:>8}"
        )
    return "\n".join([*lines, "", f"{AREAS}; {FOCAL}.", *(f"{said}." for said in synthetic.notes)])
