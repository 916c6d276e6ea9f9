"""Remake Markdown tables from the JSON beside them: `python -m tools.results.tables [FOLDER ...]`.

table.md from results.json of `manyview evaluate synthetic`, `manyview evaluate posed` and
`tools.results.flash_table`, and long_run.md from long_run.json. Without folders all of docs/results, the
pages that sum them up (summary.md, posed.md), the places `<!-- results:NAME -->` of docs, and the figure
of the README.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manyview.evaluate.protocols.procedural import Case
from manyview.evaluate.report.benchmark import benchmark_table
from manyview.evaluate.report.posed import stored_table
from manyview.evaluate.runner.benchmark import CaseRow, CaseRows, Comparison
from tools.results import flash_table, long_stream, posed_summary, procedural
from tools.results.excerpts import excerpts
from tools.results.marks import fill_marks
from tools.results.plans import MODELS
from tools.results.speed_figure import FIGURE, draw_speed

_RESULTS = Path("docs/results")
PAGES = (
    "docs/accelerations.md", "docs/model-card.md", "docs/photos-weights.md", "docs/flash-weights.md",
    "docs/streaming.md",
)  # fmt: skip
"""Pages of the repository with places for excerpts of docs/results."""


def remake(folder: Path) -> list[Path]:
    """Write the tables below a folder; returns their paths."""
    written = []
    for path in sorted(folder.rglob("*.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "long_run.json":
            target, text = path.with_suffix(".md"), long_stream.table(data["windows"])
        elif path.name == "results.json":
            target, text = path.with_name("table.md"), _table(data)
        else:
            continue
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def _table(data: dict[str, Any]) -> str:
    if "sets" in data:
        return stored_table(data)
    if "flash_table" in data["command"]:
        return flash_table.markdown(data)
    cases = [
        CaseRows(
            Case(*(one["case"][name] for name in ("level", "views", "order"))),
            tuple(CaseRow(**row) for row in one["rows"]),
            tuple(one.get("notes", ())),
        )
        for one in data["cases"]
    ]
    return benchmark_table(Comparison(data["settings"], tuple(cases)), data["command"])


def remake_pages(results: Path) -> list[Path]:
    """Write the pages that sum up docs/results; returns their paths."""
    flash = json.loads((results / "flash" / "results.json").read_text(encoding="utf-8"))
    pages = {
        results / model / "summary.md": procedural.summary(results / model)
        for model in procedural.models_with_summary(results)
    }
    pages[results / "flash" / "summary.md"] = flash_table.summary(flash)
    pages[results / "posed.md"] = posed_summary.summary(results, MODELS)
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")
    return list(pages)


def main(folders: Sequence[str]) -> None:
    """Remake docs/results, or the tables of the folders named."""
    written = [path for folder in folders or [str(_RESULTS)] for path in remake(Path(folder))]
    for path in written + ([] if folders else remake_pages(_RESULTS)):
        sys.stdout.write(f"{path}\n")
    if not folders:
        draw_speed(_RESULTS, FIGURE)
    for page in () if folders else PAGES:
        sys.stdout.write(f"{page}: {', '.join(fill_marks(page, 'results', excerpts(_RESULTS)))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
