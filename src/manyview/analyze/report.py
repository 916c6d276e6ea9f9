"""The analysis as files: analysis.json and report.html with embedded plots."""

from __future__ import annotations

import base64
import html
import io
from pathlib import Path
from typing import Any

from ..files.writing import write_files
from .analysis import Analysis
from .charts import draw
from .knockouts import Change

FILES = ("analysis.json", "report.html")
_COLUMNS = ("layer", "other frames", "match", "best head", "by chance", "same row", "rotated: content",
            "rotated: place", "entropy", "keys for 90 %", "cut to frame", "one mean key",
            "quarter of keys")  # fmt: skip
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1060px; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; font-size: 13px; } th, td { padding: .2em .7em; text-align: right; }
th { border-bottom: 2px solid #999; } tr:nth-child(even) { background: #f4f4f4; } img { max-width: 100%; }
"""
_LEGEND = """
Other frames: share of attention on patches of other frames. Match: share of strongest keys of other
frames that show the surface point of the query, at most one patch off, as a mean of heads and for the best
head; by chance is an upper bound for a random key. Rotated: images rotated by 180 degrees; share of
strongest keys that moved with the content, and that stayed in place. Cut, mean, quarter: only this layer
changed; median change of relative poses in degrees, and of AUC@30 in points if there is ground truth.
analysis.json has all numbers.
"""


def rows(analysis: Analysis) -> list[list[str]]:
    """The main numbers of each layer as text, in the order of `_COLUMNS`."""
    found = []
    for i, view in enumerate(analysis.views):
        n = view.numbers
        content, place = analysis.follows[i]
        abroad = n.mass_reference + n.mass_other_frames
        matches = (n.match_top1, n.match_top1_best_head, n.match_chance)
        shares = (abroad, *matches, n.same_row, content, place)
        cells = [str(i), *map(_percent, shares), f"{n.entropy:.2f}", _percent(n.keys_for_90)]
        for kind in ("frame", "mean", "coarse"):
            changes = analysis.knockouts.get(kind)
            cells.append("-" if changes is None else _change(changes[i], analysis.dense_auc_30))
        found.append(cells)
    return found


def _percent(share: float) -> str:
    return "-" if share != share else f"{share:.0%}"


def _change(found: Change, dense_auc_30: float | None) -> str:
    """Degrees, and change of AUC@30 in points if there is ground truth."""
    degrees = f"{found.pose_deg:.1f}°"
    if found.auc_30 is None or dense_auc_30 is None:
        return degrees
    return f"{degrees} {found.auc_30 - dense_auc_30:+.1f}"


def table(analysis: Analysis) -> str:
    """The numbers for a terminal, under headings of two lines, and the sentences."""
    headings = [name.replace(" ", "\n", 1).split("\n") for name in _COLUMNS]
    lines = [[h[0] for h in headings], [h[1] if len(h) > 1 else "" for h in headings], *rows(analysis)]
    widths = [max(len(line[c]) for line in lines) for c in range(len(_COLUMNS))]
    text = ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines]
    return "\n".join([*text, *sentences(analysis)])


def sentences(analysis: Analysis) -> list[str]:
    """The findings in sentences."""
    found = []
    if analysis.dense_auc_30 is not None:
        found.append(
            f"dense attention: AUC@30 {analysis.dense_auc_30:.1f}; behind degrees, its change in points"
        )
    if analysis.split is not None:
        found.append(analysis.split.sentence())
    for tried in analysis.suggested:
        change = tried.change
        score = "" if change.auc_30 is None else f", AUC@30 {change.auc_30:.1f}"
        found.append(
            f"suggested plan {tried.plan} ({tried.attention_share:.0%} of dense attention's operations): "
            f"cameras move {change.pose_deg:.1f} degrees, depth {change.depth_rel:.1%}{score}"
        )
    if not analysis.exact:
        found.append("true matches come from the predicted depth and cameras, and are only as good as these")
    return found


def write_analysis(analysis: Analysis, folder: Path, about: dict[str, Any]) -> list[Path]:
    """Write both files with `about` (model, input, command)."""
    data = _without_nan({**about, **analysis.to_json()})
    image = io.BytesIO()
    draw(analysis, image)
    encoded = base64.b64encode(image.getvalue()).decode()
    page = [
        f"<!doctype html><html lang='en'><meta charset='utf-8'><title>manyview analyze</title>"
        f"<style>{_STYLE}</style><h1>Global attention by layer</h1>",
        "<p>" + "<br>".join(f"{html.escape(k)}: {html.escape(str(v))}" for k, v in about.items()) + "</p>",
        *(f"<p><b>{html.escape(line)}</b></p>" for line in sentences(analysis)),
        f"<img alt='figures by layer' src='data:image/png;base64,{encoded}'>",
        "<table><tr>" + "".join(f"<th>{name}</th>" for name in _COLUMNS) + "</tr>",
        *("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows(analysis)),
        f"</table><p>{_LEGEND}</p></html>",
    ]
    return write_files(folder, dict(zip(FILES, (data, "\n".join(page)), strict=True)))


def _without_nan(value: Any) -> Any:
    """Replace NaN (a number without data, such as matches of a single view) by None."""
    if isinstance(value, dict):
        return {key: _without_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value
