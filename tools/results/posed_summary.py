"""posed.md from the results of `manyview evaluate posed` of each model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from manyview.evaluate.report.markdown import AREAS
from manyview.models.families import find_model

Row = dict[str, Any]

_OPENING = """# Real photographs

Made by `python -m tools.results.posed` with the weights in the package: {sets},
at most {views} views each, on {machine}.

{trained}COLMAP has the same photographs at their own
size; the network sees {pixels} pixels of the longer side.

Rows that are no plan: `identity` (no rotation, centres at random) and `mean step` (the mean of the *true*
steps) are independent of the images; `colmap` is structure from motion, and what it leaves out counts as
wrong. Sets are small, so differences of a few points of AUC mean nothing ([how it is
measured](../evaluation-posed.md)). {areas}.
"""
_TRAINED = """**{name} was trained on {images} and on nothing else**: the tables say how far it
carries, not what this kind of network can do. """
_OWN_TRUTH = """
The truth of {names} is a COLMAP model itself, so COLMAP's figures there say that it repeats itself.
"""


def _load(folder: Path, model: str) -> Row:
    return json.loads((folder / model / "posed" / "results.json").read_text(encoding="utf-8"))


def _value(row: Row | None, name: str, spec: str) -> str:
    found = None if row is None else row["numbers"].get(name)
    return "–" if found is None else format(found, spec)


def _rows(one: Row) -> dict[str, Row]:
    return {row["name"]: row for row in one["rows"]}


def _by_set(results: dict[str, Row]) -> list[str]:
    """Dense of each model and the references, one line a set."""
    lines = []
    first = next(iter(results.values()))
    for index, one in enumerate(first["sets"]):
        rows = {f"{m}, dense": _rows(r["sets"][index])["dense"] for m, r in results.items()}
        rows |= {name: row for name, row in _rows(one).items() if row["plan"] is None}
        facts = one["set"]
        lines += [
            f"### {facts['name']}: {facts['views']} views",
            "",
            "| row | AUC@3 exact | AUC@5 | AUC@30 | RRA@15 | RTA@15 | ATE, % of path | focal error, % "
            "| views without a camera | seconds |",
            "|---|" + "---:|" * 9,
        ]
        for name, row in rows.items():
            share = row["numbers"]["ate_share"]
            names = ("auc_integral_3", "auc_5", "auc_30", "rra_15", "rta_15")
            cells = [_value(row, figure, ".1f") for figure in names]
            cells.append("–" if share is None else f"{100 * share:.2g}")
            cells += [_value(row, "focal_error", ".1f"), str(row["left_out"])]
            seconds = row["seconds"]
            cells.append("–" if seconds is None else f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.2g}")
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
        notes = [note for row in _rows(one).values() for note in row.get("notes", ())]
        lines += ["", *(f"{note[:1].upper()}{note[1:]}.\n" for note in notes)]
    return lines


def _by_plan(model: str, result: Row) -> list[str]:
    """AUC@30 of every plan on every set, and its mean beside dense's."""
    tables = [_rows(one) for one in result["sets"]]
    names = [one["set"]["name"] for one in result["sets"]]
    dense = sum(t["dense"]["numbers"]["auc_30"] for t in tables) / len(tables)
    lines = [f"### {model}", "", "| row | " + " | ".join(names) + " | mean | of dense |"]
    lines.append("|---|" + "---:|" * (len(names) + 2))
    for name in tables[0]:
        auc = [t[name]["numbers"]["auc_30"] for t in tables]
        mean = sum(auc) / len(auc)
        share = f"{mean / dense:.0%}" if dense and tables[0][name]["plan"] is not None else ""
        label = f"`{name}`" if tables[0][name]["plan"] is not None else name
        lines.append(f"| {label} | " + " | ".join(f"{a:.1f}" for a in auc) + f" | {mean:.1f} | {share} |")
    return [*lines, "", f"[All figures]({model}/posed/results.json).", ""]


def summary(folder: Path, models: Sequence[str]) -> str:
    """Markdown of all sets and plans from the results of each model."""
    results = {model: _load(folder, model) for model in models}
    first = next(iter(results.values()))
    sets, settings = [one["set"] for one in first["sets"]], first["settings"]
    machine = settings["environment"]
    rows = [row for row in map(find_model, models) if row is not None and row.trained_on is not None]
    lines = [
        _OPENING.format(
            trained="".join(_TRAINED.format(name=row.name, images=row.trained_on) for row in rows),
            sets=", ".join(one["name"] for one in sets),
            views=settings["views"],
            machine=f"{machine['device_name']}, {machine['threads']} threads, {machine['precision']}",
            pixels=settings["image_size"],
            areas=AREAS,
        )
    ]
    own = [one["name"] for one in sets if one["format"] == "colmap"]
    if own:
        lines.append(_OWN_TRUTH.format(names=", ".join(own)).lstrip())
    lines += ["## Dense attention and references, set by set", "", *_by_set(results)]
    lines += ["## AUC@30 of every plan", ""]
    for model, result in results.items():
        lines += _by_plan(model, result)
    return "\n".join(lines).rstrip() + "\n"
