"""`manyview weights`: the models that have a name, what they predict and what their licences allow."""

from __future__ import annotations

import dataclasses

from .console import say


@dataclasses.dataclass(frozen=True)
class Weights:
    """The models that have a name here: where their weights are, what they predict, which methods suit
    them, and whether their licences allow commercial use. Nothing is downloaded."""

    commercial_only: bool = False
    """Only those whose licence allows commercial use."""
    markdown: bool = False
    """As a Markdown table, which is how docs/models.md is made."""

    def run(self) -> int:
        from ..models.families import MODELS

        chosen = [row for row in MODELS if row.commercial_use or not self.commercial_only]
        heading = ("name", "weights", "licence", "commercial use", "predicts", "images", "methods", "notes")
        allowed = {True: "yes", False: "no", None: "not known"}
        rows = [
            (
                row.name,
                row.hub_id or "in the package",
                row.licence,
                allowed[row.commercial_use],
                row.predicts,
                row.images,
                row.methods,
                row.notes,
            )
            for row in chosen
        ]
        if self.markdown:
            say("| " + " | ".join(heading) + " |\n" + "|---" * len(heading) + "|")
            for cells in rows:
                say("| " + " | ".join(cells) + " |")
            return 0
        for cells in rows:
            say(cells[0])
            for name, cell in zip(heading[1:], cells[1:], strict=True):
                say(f"  {name:<15} {cell}")
        return 0
