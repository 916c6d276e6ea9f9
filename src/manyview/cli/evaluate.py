"""`manyview evaluate synthetic`: accuracy on held-out procedural scenes."""

from __future__ import annotations

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import Literal

import tyro

from .console import Bars, say
from .options import ModelChoice, ModelFields


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Cameras and depth against exact truth, beside baselines that do not look."""

    what: tyro.conf.Positional[Literal["synthetic"]]
    """synthetic: held-out procedural scenes, with textures that training never uses."""
    model: ModelFields = dataclasses.field(default_factory=ModelChoice)
    difficulty: Literal["easy", "medium", "hard"] = "easy"
    """Which scenes."""
    scenes: int = 48
    """How many."""
    views: int = 8
    """Views of each."""
    plans: tuple[str, ...] = ("dense", "frame")
    """How frames meet in global attention: one row each."""
    seed: int = 0
    """Of the scenes."""
    json: Path | None = None
    """Also write the table and its settings to this file."""

    def run(self) -> int:
        from ..errors import OutputError, UsageError
        from ..evaluate.synthetic import evaluate_synthetic
        from ..export.files import atomic_file, check_writable, output_errors
        from ..synthetic import SceneOptions

        if self.views < 2 or self.scenes < 1:
            raise UsageError("an evaluation needs at least 1 scene of 2 views")
        if self.json is not None:
            if self.json.is_dir() or not self.json.parent.is_dir():
                raise OutputError(f"{self.json}: is no file in a folder that exists; choose another place")
            check_writable(self.json.parent)
        model = self.model.load()
        options = getattr(SceneOptions, self.difficulty)()
        with Bars() as bars:
            table = evaluate_synthetic(
                model,
                self.plans,
                scenes=self.scenes,
                views=self.views,
                options=options,
                seed=self.seed,
                progress=partial(bars, "evaluate"),
            )
        say(table.text())
        if self.json is not None:
            text = json.dumps(table.to_json(), indent=1) + "\n"
            with output_errors(self.json, len(text)), atomic_file(self.json) as part:
                part.write_text(text)
        return 0
