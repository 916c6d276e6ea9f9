"""A comparison as files: results.json, table.md and pareto.png."""

from __future__ import annotations

import json
from pathlib import Path

from ...errors import OutputError
from ...files.writing import atomic_file, check_writable, output_errors
from ..compare_plans import Comparison, PlanScores
from .pareto import draw_pareto

FILES = ("results.json", "table.md", "pareto.png")
_COLUMNS = (
    "plan",
    "AUC@3",
    "AUC@5",
    "AUC@15",
    "AUC@30",
    "keeps AUC@5 / @30",
    "rot deg",
    "dir deg",
    "ATE",
    "AbsRel",
    "Acc",
    "Comp",
    "conf (least)",
    "abs. conf, 1/z (least)",
    "attn GFLOPs",
    "s/scene",
)


def check_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder; OutputError if it cannot be written or holds earlier results without `overwrite`."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; choose another place")
    earlier = [name for name in FILES if (folder / name).exists()]
    if earlier and not overwrite:
        raise OutputError(f"{folder}: holds {earlier[0]} already; choose another folder or add --overwrite")
    with output_errors(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder)


def write_comparison(comparison: Comparison, folder: Path, command: str, plot: bool = True) -> list[Path]:
    """Write the files that belong to the comparison, each whole or not at all; `command` made it."""
    result = {"command": command, **comparison.to_json()}
    texts = {
        "results.json": json.dumps(result, indent=1, allow_nan=False) + "\n",
        "table.md": table(comparison, command),
    }
    paths = []
    for name, text in texts.items():
        with output_errors(folder / name, len(text)), atomic_file(folder / name) as part:
            part.write_text(text)
        paths.append(folder / name)
    if plot:
        with output_errors(folder / FILES[2], 1 << 20), atomic_file(folder / FILES[2]) as part:
            draw_pareto(comparison, part)
        paths.append(folder / FILES[2])
    return paths


def table(comparison: Comparison, command: str = "") -> str:
    """The figures in Markdown, one table a case, with what is needed to read and repeat them."""
    s = comparison.settings
    machine = s["environment"]
    lines = [
        f"# {s['benchmark']}: {s['model']}, {s['scenes']} scenes a case, {s['height']}x{s['width']} px",
        "",
        f"Weights {s['weights_sha256'][:12]}, ManyView {machine['manyview']}, PyTorch {machine['torch']}, "
        f"{machine['device_name']}, {machine['precision']}, {machine['threads']} threads.",
        "",
    ]
    if command:
        lines += [f"`{command}`", ""]
    for one in comparison.cases:
        note = "" if one.case.listed else " (not one of the benchmark's own cases)"
        lines += [f"## {one.case}{note}", "", "| " + " | ".join(_COLUMNS) + " |"]
        lines += ["|---" + "|---:" * (len(_COLUMNS) - 1) + "|"]
        lines += ["| " + " | ".join(_cells(row)) + " |" for row in one.rows] + [""]
    lines += [
        "AUC of relative poses in percent; ATE, Acc and Comp in units of a scene's median depth; conf is the "
        "area under the sparsification curve of relative depth errors (1 knows nothing) and the least "
        "possible, abs. conf that of absolute errors beside 1/z taken for confidence; attn GFLOPs are the "
        "scores and weighted sums of the global layers; s/scene is the median forward pass.",
        "",
    ]
    return "\n".join(lines)


def _cells(row: PlanScores) -> list[str]:
    own = row.scores
    direction = "–" if own.translation_median_deg is None else f"{own.translation_median_deg:.1f}"
    return [
        f"`{row.plan}`",
        *(f"{value:.1f}" for value in (own.auc_3, own.auc_5, own.auc_15, own.auc_30)),
        f"{_percent(row.retention['auc_5'])} / {_percent(row.retention['auc_30'])}",
        f"{own.rotation_median_deg:.1f}",
        direction,
        *(f"{value:.3f}" for value in (own.ate, own.abs_rel, own.accuracy, own.completeness)),
        f"{own.confidence_area:.2f} ({own.confidence_oracle:.2f})",
        f"{own.confidence_absolute_area:.2f}, {own.confidence_absolute_inverse_depth:.2f} "
        f"({own.confidence_absolute_oracle:.2f})",
        f"{own.attention_flops / 1e9:.3g}",
        f"{own.seconds:.3g}",
    ]


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{100 * share:.0f} %"
