"""The analysis as files: analysis.json and report.html, one page with its pictures inside."""

from __future__ import annotations

import base64
import html
import io
import json
from pathlib import Path
from typing import Any

from ..errors import MissingExtraError, OutputError
from ..export.files import atomic_file, check_writable, output_errors
from .analysis import Analysis
from .charts import draw

FILES = ("analysis.json", "report.html")
_COLUMNS = ("layer", "match", "best head", "chance", "same row", "entropy", "keys for 90 %", "other frames",
            "cut to frame", "one mean key", "quarter of keys")  # fmt: skip
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 13px; } th, td { padding: .2em .7em; text-align: right; }
th { border-bottom: 2px solid #999; } tr:nth-child(even) { background: #f4f4f4; } img { max-width: 100%; }
"""


def require_plot() -> None:
    """Raise MissingExtraError unless plots can be drawn; ask before long work."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("the report's plots", "plot") from error


def check_folder(folder: Path, overwrite: bool) -> None:
    """Make the folder; OutputError if it cannot be written or holds an analysis without `overwrite`."""
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is no folder; choose another place")
    earlier = [name for name in FILES if (folder / name).exists()]
    if earlier and not overwrite:
        raise OutputError(f"{folder}: holds {earlier[0]} already; choose another folder or add --overwrite")
    with output_errors(folder, 0):
        folder.mkdir(parents=True, exist_ok=True)
    check_writable(folder)


def rows(analysis: Analysis) -> list[list[str]]:
    """The main figures of each layer as text, in the order of the table's columns."""
    found = []
    for i, view in enumerate(analysis.views):
        n = view.numbers
        cells = [str(i), f"{n.match_top1:.0%}", f"{n.match_top1_best_head:.0%}", f"{n.match_chance:.0%}",
                 f"{n.same_row:.0%}", f"{n.entropy:.2f}", f"{n.keys_for_90:.0%}",
                 f"{n.mass_reference + n.mass_other_frames:.0%}"]  # fmt: skip
        for kind in ("frame", "mean", "coarse"):
            changes = analysis.knockouts.get(kind)
            cells.append("-" if changes is None else f"{changes[i].pose_deg:.1f}°")
        found.append(cells)
    return found


def table(analysis: Analysis) -> str:
    """The figures for a terminal, and what they suggest."""
    lines = [list(_COLUMNS), *rows(analysis)]
    widths = [max(len(line[c]) for line in lines) for c in range(len(_COLUMNS))]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*text, *sentences(analysis)])


def sentences(analysis: Analysis) -> list[str]:
    """What the analysis comes to."""
    found = []
    if analysis.split is not None and analysis.suggested is not None:
        found.append(analysis.split.sentence())
        change, dense = analysis.suggested, analysis.dense_auc_30
        kept = ""
        if change.auc_30 is not None and dense is not None:
            kept = f", AUC@30 {change.auc_30:.1f} against {dense:.1f} of dense attention"
        found.append(
            f"the suggested plan moves cameras by {change.pose_deg:.1f} degrees (median of pairs) and "
            f"depth by {change.depth_rel:.1%}{kept}"
        )
    if not analysis.exact:
        found.append("true matches were taken from the network's own depth and cameras: as good as they are")
    return found


def write_analysis(analysis: Analysis, folder: Path, about: dict[str, Any]) -> list[Path]:
    """Write both files; `about` says what was analysed (model, input, command) and goes into both."""
    data = json.dumps(_without_nan({**about, **analysis.to_json()}), indent=1, allow_nan=False) + "\n"
    picture = io.BytesIO()
    draw(analysis, picture)
    encoded = base64.b64encode(picture.getvalue()).decode()
    page = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>manyview analyze</title>"
        f"<style>{_STYLE}</style><h1>What global attention looks at</h1>",
        "<p>" + "<br>".join(f"{html.escape(k)}: {html.escape(str(v))}" for k, v in about.items()) + "</p>",
        *(f"<p><b>{html.escape(line)}</b></p>" for line in sentences(analysis)),
        f"<img alt='figures by layer' src='data:image/png;base64,{encoded}'>",
        "<table><tr>" + "".join(f"<th>{name}</th>" for name in _COLUMNS) + "</tr>",
        *("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows(analysis)),
        "</table><p>Match: share of strongest keys of other frames that show the query's own surface point "
        "(mean of heads, and the best head). Cut, mean, quarter: median change of relative poses when this "
        "layer alone is changed. analysis.json has all figures.</p></html>",
    ]
    paths = []
    for name, text in zip(FILES, (data, "\n".join(page)), strict=True):
        with output_errors(folder / name, len(text)), atomic_file(folder / name) as part:
            part.write_text(text, encoding="utf-8")
        paths.append(folder / name)
    return paths


def _without_nan(value: Any) -> Any:
    """NaN (a figure that could not be taken, such as matches of a single view) becomes null."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
