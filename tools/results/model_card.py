"""The tables of the model card, from what a checkpoint carries: sizes, recipes, held-out numbers.

`python -m tools.results.model_card FILE.safetensors PAGE ...` replaces the marked tables of the pages.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from manyview import load
from manyview.errors import ManyViewError, UsageError
from manyview.files.writing import format_bytes
from manyview.models.checkpoints.metadata import stored_metadata
from manyview.models.checkpoints.read import read_checkpoint
from tools.results.credits import credits_table, recipes_of
from tools.results.marks import fill_marks

_COLUMNS = (
    ("AUC@5 exact", "auc_integral_5", ".1f"),
    ("AUC@5", "auc_5", ".1f"), ("AUC@15", "auc_15", ".1f"), ("AUC@30", "auc_30", ".1f"),
    ("rotation °", "rotation_median_deg", ".1f"), ("direction °", "translation_median_deg", ".1f"),
    ("focal %", "focal_error", ".1f"), ("AbsRel", "abs_rel", ".3f"), ("conf", "confidence_excess", ".2f"),
    ("conf, absolute", "confidence_absolute_excess", ".2f"),
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Card:
    """A weights file, what it carries, and the folder of pictures it was trained on, if any."""

    weights: Path
    metadata: Mapping[str, Any]
    textures: Path | None = None

    @property
    def numbers(self) -> Mapping[str, Any]:
        return self.metadata["numbers"]

    @property
    def recipes(self) -> list[Mapping[str, Any]]:
        """Of all runs that led to the weights, the first run first."""
        return recipes_of(self.metadata)


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def network_table(card: Card) -> str:
    """Markdown of the sizes of the network."""
    model, sizes = load(card.weights), card.metadata["config"]
    encoder, heads = sizes["encoder"], ("camera", "depth", "point", "track")
    base, head = card.metadata.get("base"), sizes["dim"] // sizes["num_heads"]
    file = format_bytes(card.weights.stat().st_size) + " in float16"
    file += f", the rest in {base['weights']}" if base else ""
    patch = sizes["patch_size"]
    rows = {
        "parameters": f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} million, {file}",
        "encoder": f"DINOv2-type, {encoder['depth']} blocks of width {sizes['dim']}, {encoder['num_heads']} "
        f"heads, {encoder['registers']} registers, patches of {patch} pixels",
        "trunk": f"{sizes['depth']} pairs of frame and global blocks, width {sizes['dim']}, "
        f"{sizes['num_heads']} heads of {head}, {sizes['registers']} registers",
        "heads": ", ".join(name for name in heads if sizes[f"{name}_head"]),
        "images": f"longer side {sizes['image_size']} pixels ({sizes['image_size'] // patch} patches)",
        "licence": f"{card.metadata['licence']}",
    }
    return "\n".join(["| | |", "|---|---|", *(_row([name, text]) for name, text in rows.items())])


def runs_table(card: Card) -> str:
    """Markdown of the runs that led to the weights, the first run first."""
    head = ["", "command", "steps", "scenes", "images", "minutes", "processes"]
    lines = [_row(head), "|---" * 2 + "|---:" * 5 + "|"]
    for number, one in enumerate(card.recipes, 1):
        counts = [f"{one[name]:,}" for name in ("steps", "scenes", "images")]
        processes = ", ".join(dict.fromkeys(str(part["processes"]) for part in one["parts"]))
        lines.append(_row([str(number), f"`{one['command']}`", *counts, f"{one['minutes']:.0f}", processes]))
    return "\n".join(lines)


def full_tables(card: Card) -> str:
    """Markdown of every plan and baseline a difficulty, then the model over numbers of views."""
    numbers = card.numbers
    parts = []
    tables = [*numbers["levels"].values(), *numbers["views"]]
    every = [row for table in tables for row in table["rows"].values()]
    columns = [column for column in _COLUMNS if any(row.get(column[1]) is not None for row in every)]

    def values(row: Mapping[str, Any]) -> list[str]:
        return [_number(row.get(key), form) for _, key, form in columns]

    head = [_row(["", *(name for name, _, _ in columns)]), "|---" * (len(columns) + 1) + "|"]
    for level, table in numbers["levels"].items():
        s = table["settings"]
        sizes = f"--level {level} --views {s['views']} --scenes {s['scenes']}"
        command = f"manyview evaluate synthetic --model MODEL {sizes}"
        title = f"**{level}**, {s['scenes']} scenes of {s['views']} views at {s['width']}x{s['height']}"
        rows = [_row([name, *values(row)]) for name, row in table["rows"].items()]
        parts.append("\n".join([f"{title} (`{command}`)", "", *head, *rows]))
    if not numbers["views"]:
        return "\n\n".join(parts)
    plans = dict.fromkeys(name for entry in numbers["views"] for name in entry["rows"])
    lines = [
        f"**More and fewer views**, {', '.join(plans) or 'dense'}", "",
        _row(["scenes", "number", "views", *(name for name, _, _ in columns)]),
        "|---" * (len(columns) + 3) + "|",
    ]  # fmt: skip
    for entry in numbers["views"]:
        s = entry["settings"]
        for row in entry["rows"].values():
            lines.append(_row([entry["level"], str(s["scenes"]), str(s["views"]), *values(row)]))
    return "\n\n".join([*parts, "\n".join(lines)])


TABLES = {
    "network": network_table,
    "runs": runs_table,
    "credits": lambda card: credits_table(card.recipes, card.textures),
    "tables": full_tables,
}


def write_tables(page: str | Path, card: Card) -> list[str]:
    """Fill the places `<!-- numbers:NAME -->` of a page, NAME one of `TABLES`; errors as of `fill_marks`."""
    return fill_marks(page, "numbers", {name: partial(make, card) for name, make in TABLES.items()})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.results.model_card", description=__doc__)
    parser.add_argument("weights", type=Path, help="file of `manyview train --weights`")
    parser.add_argument("pages", type=Path, nargs="+", help="Markdown files with marked tables")
    parser.add_argument("--textures", type=Path, help="folder of pictures that the weights were trained on")
    chosen = parser.parse_args(arguments)
    try:
        metadata = stored_metadata(read_checkpoint(chosen.weights))
        if not metadata.get("numbers"):
            raise UsageError(f"{chosen.weights} carries no held-out numbers: write it with --scenes above 0")
        card = Card(chosen.weights, metadata, chosen.textures)
        for page in chosen.pages:
            sys.stdout.write(f"{page}: {', '.join(write_tables(page, card))}\n")
    except ManyViewError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
