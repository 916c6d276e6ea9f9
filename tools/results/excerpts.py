"""Short tables of README and docs from the JSON of docs/results; `tools.results.tables` writes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from manyview.models.auto import BUNDLED, FALLBACK
from tools.results.flash_table import photographs_table, summary
from tools.training.validate import MEAN

PLANS = (
    "dense", "avggt:early=0,stride=2x2", "avggt:early=0,stride=3x3", "flash:r=2", "anchors:frames=8", "httm",
    "frame",
)  # fmt: skip

Row = dict[str, Any]


def excerpts(results: Path) -> dict[str, Callable[[], str]]:
    """What `<!-- results:NAME -->` stands for, by name; `results` is docs/results."""
    return {
        "accelerations": lambda: accelerations(results / BUNDLED),
        "photographs": lambda: photographs(_read(results / BUNDLED / "posed")),
        "trained": lambda: trained(*(_read(results / name / "posed") for name in (FALLBACK, BUNDLED))),
        "descriptors": lambda: descriptors(_read(results / "flash")),
        "descriptors-photographs": lambda: photographs_table(
            _read(results / "flash" / "photographs")
        ).rstrip(),
        "descriptors-validation": lambda: photographs_table(_read(results / "flash" / "validation")).rstrip(),
        "pilots": lambda: pilots(_read(results / FALLBACK, "pilots.json")),
        "streams": lambda: streams(results / "streaming"),
    }


def accelerations(folder: Path) -> str:
    """AUC@30 of some plans and its share of dense's along easy walks, and what the longest walk costs."""
    cases: dict[int, dict[str, Row]] = {}
    for part in ("easy", "easy-150", "easy-300"):
        for one in _read(folder / part)["cases"]:
            if one["case"]["order"] == "sequence":
                cases[one["case"]["views"]] = {row["plan"]: row["scores"] for row in one["rows"]}
    longest = max(cases)
    last = cases[longest]
    head = [f"{views} views" for views in cases]
    head += [f"attention at {longest}", f"time at {longest} (dense: {last['dense']['seconds']:.0f} s)"]
    rows = []
    for plan in PLANS:
        cells = [_share(rows_of.get(plan), rows_of["dense"]) for rows_of in cases.values()]
        shares = [last[plan][name] / last["dense"][name] for name in ("attention_flops", "seconds")]
        rows.append([f"`{plan}`", *cells, f"{shares[0]:.0%}", f"{shares[1]:.2f}"])
    return _table(["AUC@30 (share of dense)", *head], rows)


def _share(row: Row | None, dense: Row) -> str:
    return "" if row is None else f"{row['auc_30']:.1f} ({row['auc_30'] / dense['auc_30']:.0%})"


def photographs(data: Row) -> str:
    """AUC@30 of dense attention on each posed set, beside attention within frames and the references."""
    names = ("dense", "frame", "identity", "colmap")
    head = ["AUC@30", "views", "dense", "within frames", "identity", "COLMAP", "focal error, %"]
    rows = []
    for one in data["sets"]:
        found = {row["name"]: row for row in one["rows"]}
        aucs = [f"{found[name]['numbers']['auc_30']:.1f}" for name in names]
        focal, seconds = found["dense"]["numbers"]["focal_error"], [found[n]["seconds"] for n in names[::3]]
        times = " / ".join("–" if value is None else f"{value:.2g}" for value in seconds)
        cells = [one["set"]["name"], str(one["set"]["views"]), *aucs]
        rows.append([*cells, "–" if focal is None else f"{focal:.1f}", times])
    return _table([*head, "seconds, dense / COLMAP"], rows)


def trained(ours: Row, before: Row) -> str:
    """AUC@30 on each posed set of weights trained on photographs, beside those that they began from."""
    rendered = {one["set"]["name"]: _numbers(one, "dense") for one in before["sets"]}
    head = ["AUC@30", "views", FALLBACK, "within frames", "identity", BUNDLED, "focal error, %", "before, %"]
    rows = []
    for one in ours["sets"]:
        dense, old = _numbers(one, "dense"), rendered[one["set"]["name"]]
        aucs = [row["auc_30"] for row in (dense, _numbers(one, "frame"), _numbers(one, "identity"), old)]
        figures = [*aucs, dense["focal_error"], old["focal_error"]]
        cells = [one["set"]["name"], str(one["set"]["views"])]
        rows.append([*cells, *("–" if value is None else f"{value:.1f}" for value in figures)])
    return _table(head, rows)


def _numbers(one: Row, name: str) -> Row:
    return next(row["numbers"] for row in one["rows"] if row["name"] == name)


def pilots(data: dict[str, dict[str, Row]]) -> str:
    """What `tools.training.pilots` measured: means of photographs, and AUC@30 of rendered scenes."""
    names = list(next(iter(data.values())))
    kinds = names[names.index(MEAN) + 1 :]
    rows = []
    for name, sets in data.items():
        figures = [sets[MEAN][column] for column in ("auc_30", "auc_30_groups", "focal_%")]
        figures += [sets[kind]["auc_30"] for kind in kinds]
        rows.append([name, *(f"{value:.1f}" for value in figures)])
    return _table(["AUC@30", "photographs", "groups of 8", "focal error, %", *kinds], rows)


def descriptors(data: Row) -> str:
    """Rows of flash/summary.md: dense attention, the plan of training, and streams of single frames."""
    plans = ("dense", data["settings"]["models"]["flash"]["trained_for"])
    cases = [
        {**one, "rows": [row for row in one["rows"] if _is_short(row["way"], plans)]} for one in data["cases"]
    ]
    return summary({**data, "cases": cases}).rstrip()


def _is_short(way: Row, plans: tuple[str, ...]) -> bool:
    return way["chunk"] == 1 or (way["chunk"] is None and way["plan"] in plans)


def streams(folder: Path) -> str:
    """Time, memory and errors in the first and the last part of each long stream."""
    head = ["stream", "weights", "engine", "frames", "ms a frame", "memory of the stream, at most",
            "process, at most", "rotation", "centres"]  # fmt: skip
    rows = []
    for path in sorted(folder.glob("*/long_run.json")):
        data = json.loads(path.read_text(encoding="utf-8"))
        facts, parts = data["settings"], data["windows"]
        first, last = parts[0], parts[-1]
        most = [f"{max(part[name] for part in parts):.0f} MiB" for name in ("memory_mib", "process_mib")]
        cells = [f"`{path.parent.name}`", facts["model"], facts["engine"], f"{facts['views']:,}"]
        cells += [f"{first['ms_per_frame']:.0f}, {last['ms_per_frame']:.0f}", *most]
        cells += [f"{first['rotation_deg']:.1f}°, {last['rotation_deg']:.1f}°"]
        rows.append([*cells, f"{first['centre_error']:.0%}, {last['centre_error']:.0%}"])
    return _table(head, rows)


def _read(folder: Path, name: str = "results.json") -> Any:
    return json.loads((folder / name).read_text(encoding="utf-8"))


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], "|---|" + "---:|" * (len(head) - 1), *lines[1:]])
