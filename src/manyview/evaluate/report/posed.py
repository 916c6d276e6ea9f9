"""A comparison on posed sets as text and as files: table.md and results.json."""

from __future__ import annotations

import json
from pathlib import Path

from ...files.writing import atomic_file, output_errors
from ..metrics.confidence import Ranking
from ..runner.posed import PosedComparison, PosedRow, PosedSetScores

_COLUMNS = (
    "row",
    "AUC@3",
    "AUC@5",
    "AUC@15",
    "AUC@30",
    "RRA@5/15/30",
    "RTA@5/15/30",
    "rot deg",
    "dir deg",
    "ATE",
    "ATE % of path",
    "AbsRel",
    "d<1.25 %",
    "conf, 1/z (least)",
    "abs. conf, 1/z (least)",
    "forward s",
)
_NONE = "–"
_SAYS = {
    "identity": "identity does not look at the pictures: no rotation, centres at random, constant depth. ",
    "mean-step": "mean step does not look: the mean true step from view to view, the mean true depth in "
    "each pixel. ",
    "colmap": "colmap is structure from motion on the same pictures at their own size; its seconds are of "
    "everything. Views that are not in its largest model count as wrong in every pair (180 degrees) and, in "
    "ATE, as standing in the mean of the true centres. ",
}


def posed_table(comparison: PosedComparison, command: str = "") -> str:
    """The figures in Markdown, one table a set, with what is needed to read and repeat them."""
    s = comparison.settings
    machine = s["environment"]
    lines = [
        f"# Posed pictures: {s['model']}, at most {s['views']} views a set",
        "",
        f"Weights {s['weights_sha256'][:12]}, ManyView {machine['manyview']}, PyTorch {machine['torch']}, "
        f"{machine['device_name']}, {machine['precision']}, {machine['threads']} threads; "
        f"size policy {s['size_policy']}, longer side {s['image_size']}.",
        "",
    ]
    if command:
        lines += [f"`{command}`", ""]
    for one in comparison.sets:
        lines += _set_lines(one)
    lines += [
        "AUC, RRA and RTA of relative poses in percent over all pairs; ATE after the Sim(3) of least "
        "squares; depth after one median scale a set. "
        + "".join(_SAYS[name] for name in s["references"])
        + "conf is the area under the sparsification curve of relative depth errors (1 knows nothing), of "
        "1/z taken for confidence, and the least possible; abs. conf that of absolute errors.",
        "",
    ]
    return "\n".join(lines)


def _set_lines(one: PosedSetScores) -> list[str]:
    f = one.facts
    lines = [
        f"## {f['name']}",
        "",
        f"{f['format']}, {f['views']} views of {f['width']}x{f['height']} px, "
        f"path of {f['path_length']:.3g} {f['unit']}; cameras all in one point would have ATE "
        f"{f['spread']:.3g} {f['unit']}.",
        *(f"Note: {note}." for note in f["notes"]),
        *(
            f"{row.name}: {row.left_out} views were given no camera and count as wrong."
            for row in one.rows
            if row.left_out
        ),
        *(f"{note[:1].upper()}{note[1:]}." for row in one.rows for note in row.notes),
        "",
        "| " + " | ".join(_COLUMNS) + " |",
        "|---" + "|---:" * (len(_COLUMNS) - 1) + "|",
    ]
    return [*lines, *("| " + " | ".join(_cells(row)) + " |" for row in one.rows), ""]


def _cells(row: PosedRow) -> list[str]:
    n = row.numbers
    return [
        f"`{row.name}`" if row.plan is not None else row.name,
        *(f"{value:.1f}" for value in (n.auc_3, n.auc_5, n.auc_15, n.auc_30)),
        " / ".join(_number(value, ".0f") for value in (n.rra_5, n.rra_15, n.rra_30)),
        " / ".join(_number(value, ".0f") for value in (n.rta_5, n.rta_15, n.rta_30)),
        f"{n.rotation_median_deg:.1f}",
        _number(n.translation_median_deg, ".1f"),
        _number(n.ate, ".3f"),
        _number(None if n.ate_share is None else 100 * n.ate_share, ".1f"),
        _number(n.abs_rel, ".3f"),
        _number(n.delta_125, ".1f"),
        _ranking(None if n.confidence is None else n.confidence.relative),
        _ranking(None if n.confidence is None else n.confidence.absolute),
        _number(row.seconds, ".3g"),
    ]


def _ranking(one: Ranking | None) -> str:
    return _NONE if one is None else f"{one.area:.2f}, {one.inverse_depth:.2f} ({one.oracle:.2f})"


def _number(value: float | None, spec: str) -> str:
    return _NONE if value is None else format(value, spec)


def write_posed(comparison: PosedComparison, folder: Path, command: str) -> list[Path]:
    """Write table.md and results.json, each whole or not at all; `command` made them."""
    result = {"command": command, **comparison.to_json()}
    texts = {
        "results.json": json.dumps(result, indent=1, allow_nan=False) + "\n",
        "table.md": posed_table(comparison, command),
    }
    paths = []
    for name, text in texts.items():
        with output_errors(folder / name, len(text)), atomic_file(folder / name) as part:
            part.write_text(text)
        paths.append(folder / name)
    return paths
