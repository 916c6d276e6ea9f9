"""The tables of README and model card, from the numbers that a checkpoint carries.

`python -m tools.results.model_card FILE.safetensors PAGE ...` replaces the marked tables of the pages.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manyview.errors import ManyViewError, OutputError, UsageError
from manyview.models.checkpoints.metadata import stored_metadata
from manyview.models.checkpoints.read import read_checkpoint

_COLUMNS = (
    ("AUC@5 exact", "auc_integral_5", ".1f"),
    ("AUC@5", "auc_5", ".1f"), ("AUC@15", "auc_15", ".1f"), ("AUC@30", "auc_30", ".1f"),
    ("rotation °", "rotation_median_deg", ".1f"), ("direction °", "translation_median_deg", ".1f"),
    ("focal %", "focal_error", ".1f"), ("AbsRel", "abs_rel", ".3f"), ("conf", "confidence_excess", ".2f"),
    ("conf, absolute", "confidence_absolute_excess", ".2f"),
)  # fmt: skip


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _values(row: Mapping[str, Any]) -> list[str]:
    return [_number(row.get(key), form) for _, key, form in _COLUMNS]


def summary_table(numbers: Mapping[str, Any]) -> str:
    """Markdown of one line a difficulty: dense beside attention within frames and the baselines."""
    lines = [
        _row(["held-out scenes, 8 views", "dense AUC@5 / 15 / 30 (VGGT's histogram)", "AbsRel",
              "within frames AUC@30", "identity AUC@30", "mean pose AUC@30"]),
        "|---" * 6 + "|",
    ]  # fmt: skip
    for level, table in numbers["levels"].items():
        rows = table["rows"]
        dense = rows["dense"]
        aucs = " / ".join(f"{dense[f'auc_{t}']:.1f}" for t in (5, 15, 30))
        others = [f"{rows[name]['auc_30']:.1f}" for name in ("frame", "identity", "mean pose")]
        lines.append(_row([level, aucs, f"{dense['abs_rel']:.3f}", *others]))
    return "\n".join(lines)


def full_tables(numbers: Mapping[str, Any]) -> str:
    """Markdown of every plan and baseline a difficulty, then the model over numbers of views."""
    parts = []
    head = [_row(["", *(name for name, _, _ in _COLUMNS)]), "|---" * (len(_COLUMNS) + 1) + "|"]
    for level, table in numbers["levels"].items():
        s = table["settings"]
        sizes = f"--level {level} --views {s['views']} --scenes {s['scenes']}"
        command = f"manyview evaluate synthetic --model MODEL {sizes}"
        title = f"**{level}**, {s['scenes']} scenes of {s['views']} views at {s['width']}x{s['height']}"
        rows = [_row([name, *_values(row)]) for name, row in table["rows"].items()]
        parts.append("\n".join([f"{title} (`{command}`)", "", *head, *rows]))
    plans = dict.fromkeys(name for entry in numbers["views"] for name in entry["rows"])
    lines = [
        f"**More and fewer views**, {', '.join(plans) or 'dense'}", "",
        _row(["scenes", "number", "views", *(name for name, _, _ in _COLUMNS)]),
        "|---" * (len(_COLUMNS) + 3) + "|",
    ]  # fmt: skip
    for entry in numbers["views"]:
        s = entry["settings"]
        for row in entry["rows"].values():
            lines.append(_row([entry["level"], str(s["scenes"]), str(s["views"]), *_values(row)]))
    return "\n\n".join([*parts, "\n".join(lines)])


TABLES = {"summary": summary_table, "tables": full_tables}


def write_tables(page: str | Path, numbers: Mapping[str, Any]) -> list[str]:
    """Replace what stands between `<!-- numbers:NAME -->` and `<!-- /numbers -->` of a page.

    NAME is one of `TABLES`; returned are the names replaced. Errors: UsageError for a page without such a
    place or an unknown name, OutputError if it cannot be read or written.
    """
    path = Path(page)
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise OutputError(f"cannot read {path}: {error.strerror}") from error
    pieces = text.split("<!-- numbers:")
    found, result = [], pieces[0]
    for piece in pieces[1:]:
        name, opened, rest = piece.partition(" -->")
        _, closed, after = rest.partition("<!-- /numbers -->")
        if not opened or not closed or name not in TABLES:
            known = ", ".join(TABLES)
            raise UsageError(f"{path}: '<!-- numbers:{name}' needs an end and one of the names {known}")
        found.append(name)
        result += f"<!-- numbers:{name} -->\n{TABLES[name](numbers)}\n<!-- /numbers -->{after}"
    if not found:
        raise UsageError(f"{path} has no place for numbers: mark one with <!-- numbers:summary -->")
    try:
        path.write_text(result, "utf-8")
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.results.model_card", description=__doc__)
    parser.add_argument("weights", type=Path, help="file of `manyview train --weights`")
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with marked tables")
    chosen = parser.parse_args(arguments)
    try:
        numbers = stored_metadata(read_checkpoint(chosen.weights)).get("numbers")
        if not numbers:
            raise UsageError(f"{chosen.weights} carries no held-out numbers: write it with --scenes above 0")
        for page in chosen.pages:
            sys.stdout.write(f"{page}: {', '.join(write_tables(page, numbers))}\n")
    except ManyViewError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
