"""`manyview models`: the models that have a name, what they predict, what is here, what licences allow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from .console import say

if TYPE_CHECKING:
    from ..models.checkpoints.named import NamedModel


@dataclasses.dataclass(frozen=True)
class Models:
    """The models that have a name here: where their weights are, which are on this machine, what they
    predict, which methods suit them, whether their licences allow commercial use, and which one `--model
    auto` takes now. Nothing is downloaded."""

    commercial_only: bool = False
    """Only those whose licence allows commercial use."""
    offline: bool = False
    """What auto takes without the network; the hub is not asked."""
    markdown: bool = False
    """As a Markdown table, the same on every machine, which is how docs/models.md is made."""

    def run(self) -> int:
        from ..models.auto import choose_model
        from ..models.families import MODELS

        chosen = [row for row in MODELS if row.commercial_use or not self.commercial_only]
        heading = (
            "name", "weights", "size", "licence", "commercial use", "predicts", "images", "methods", "notes",
        )  # fmt: skip
        rows = [_cells(row) for row in chosen]
        if self.markdown:
            say("| " + " | ".join(heading) + " |\n" + "|---" * len(heading) + "|")
            for cells in rows:
                say("| " + " | ".join(cells) + " |")
            return 0
        for row, cells in zip(chosen, rows, strict=True):
            say(cells[0])
            for name, cell in zip(heading[1:], cells[1:], strict=True):
                say(f"  {name:<15} {cell}")
            say(f"  {'here':<15} {_here(row)}")
        say(choose_model(self.offline or None, download=False).reason)
        return 0


def _cells(row: NamedModel) -> tuple[str, ...]:
    from ..files.writing import format_bytes

    allowed = {True: "yes", False: "no", None: "not known"}
    return (
        row.name,
        row.hub_id or "in the package",
        "not known" if row.size_bytes is None else format_bytes(row.size_bytes),
        row.licence,
        allowed[row.commercial_use],
        row.predicts,
        row.images,
        row.methods,
        row.notes,
    )


def _here(row: NamedModel) -> str:
    """Where the weights are on this machine, and their size."""
    from ..errors import MissingExtraError
    from ..files.writing import format_bytes
    from ..models.checkpoints.hub import named_request
    from ..models.checkpoints.metadata import stored_base
    from ..models.checkpoints.read import read_checkpoint
    from ..models.load import bundled_path

    if row.hub_id is None:
        path: Path = bundled_path(row)
        base = stored_base(read_checkpoint(path))
        rest = "" if base is None else f", the rest in {base.weights}"
        return f"{format_bytes(path.stat().st_size)}, {path}{rest}"
    try:
        files = named_request(row).cached()
    except MissingExtraError:
        return "no; downloads need pip install 'manyview[hub]'"
    return "no" if files is None else f"{format_bytes(files.size_bytes)}, {files.path}"
