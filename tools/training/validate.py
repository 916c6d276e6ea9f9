"""Choose between weights: `python -m tools.training.validate MODEL --photos SET... --textures FOLDER`.

Sets and pictures must be none of those that weights were trained on, nor those of the final tables.
"""

from __future__ import annotations

import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from manyview.datasets import read_posed_set
from manyview.datasets.posed_set import PosedSet
from manyview.evaluate.protocols.published import POSED
from manyview.evaluate.runner.scene import PosedScene, Recipe
from manyview.evaluate.runner.settings import posed_settings
from manyview.evaluate.runner.synthetic import evaluate_synthetic
from manyview.models.vggt.model import VGGT
from manyview.reconstruction.run.options import ReconstructOptions
from manyview.synthetic import SceneOptions
from manyview.train.grow import load_trainable
from manyview.train.state import has_state
from manyview.train.weights import trained_model
from tools.command import run_command

_MOST_VIEWS, _GROUPS, _VIEWS, _WINDOW = 24, 4, 8, 16
_COLUMNS = ("auc_5", "auc_30", "auc_30_groups", "rotation", "direction", "focal_%", "abs_rel")


@dataclass(frozen=True)
class Validation:
    """Print poses and focal lengths of weights on photographs and on rendered scenes, dense attention."""

    model: tyro.conf.Positional[str]
    """A run's folder, a file of weights or a name."""
    photos: tuple[Path, ...] = ()
    """Folders of photographs with cameras: all views (at most 24), and groups of 8 neighbours."""
    textures: Path | None = None
    """Folder of pictures for the surfaces of rendered scenes; none: only the presets."""
    size: int | None = None
    """Longer side of the photographs, in pixels; none: the model's."""
    scenes: int = 24
    """Rendered scenes of each kind."""
    json: Path | None = None
    """Also write the figures to this file."""


def validate(args: Validation) -> None:
    """Measure and print a table."""
    run = Path(args.model)
    model = trained_model(run) if has_state(run) else load_trainable(args.model)
    table: dict[str, dict[str, float]] = {}
    for folder in args.photos:
        table[folder.name] = on_photographs(model, read_posed_set(folder), args.size)
    if table:
        table["mean of photographs"] = {
            column: float(np.mean([row[column] for row in table.values()]))
            for column in next(iter(table.values()))
        }
    for name, scenes in rendered_scenes(args.textures).items():
        found = evaluate_synthetic(model, ("dense",), args.scenes, _VIEWS, options=scenes, baselines=False)
        figures = found.rows["dense"]
        names = {"auc_5": "auc_5", "auc_30": "auc_30", "rotation": "rotation_median_deg",
                 "direction": "translation_median_deg", "abs_rel": "abs_rel"}  # fmt: skip
        table[name] = {ours: _number(figures[theirs]) for ours, theirs in names.items()}
    print(f"| {args.model} | " + " | ".join(_COLUMNS) + " |\n|" + "---|" * (len(_COLUMNS) + 1))
    for name, row in table.items():
        cells = (f"{row[column]:.3g}" if column in row else "" for column in _COLUMNS)
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(table, indent=1), "utf-8")


def on_photographs(model: VGGT, found: PosedSet, size: int | None) -> dict[str, float]:
    """Figures of one set as `manyview evaluate posed` has them: of all views, and of groups of neighbours."""
    draws = random.Random(found.name)
    parts = [found.spread(_MOST_VIEWS)]
    for _ in range(_GROUPS):
        start = draws.randrange(max(1, len(found) - _WINDOW + 1))
        there = range(start, min(start + _WINDOW, len(found)))
        parts.append(found.select(sorted(draws.sample(there, min(_VIEWS, len(there))))))
    options = ReconstructOptions(image_size=size, strict=True)
    settings = posed_settings(model, ("dense",), _MOST_VIEWS, 0, options)
    how = Recipe(settings, POSED, ("dense",), (), options)
    scenes = (PosedScene(found.name, part, len(part), how).measure(model, lambda: None) for part in parts)
    every, *groups = (scene.rows[0].figures for scene in scenes)
    return {
        "auc_5": _number(every["auc_5"]),
        "auc_30": _number(every["auc_30"]),
        "auc_30_groups": float(np.mean([_number(group["auc_30"]) for group in groups])),
        "rotation": _number(every["rotation_deg"]),
        "direction": _number(every["direction_deg"]),
        "focal_%": _number(every["focal_error"]),
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def rendered_scenes(pictures: Path | None) -> dict[str, SceneOptions]:
    """The presets, and scenes of pictures if there are any."""
    found = {"easy": SceneOptions.easy(), "medium": SceneOptions.medium(), "hard": SceneOptions.hard()}
    if pictures is not None:
        both: dict[str, Any] = {
            "pictures": str(pictures), "picture_share": 0.9, "shadows": 0.8, "gloss": 0.2, "clouds": 0.8,
            "motion": "mixed", "saturation": (0.0, 0.5), "fov_degrees": (35.0, 78.0), "haze_free_share": 1.0,
        }  # fmt: skip
        found["facade"] = SceneOptions.medium(**{**both, "kind": "outdoor", "arrangement": "facade"})
        found["table"] = SceneOptions.medium(**{**both, "kind": "room", "arrangement": "table"})
        street = {"kind": "outdoor", "arrangement": "street", "motion": "forward"}
        found["street"] = SceneOptions.medium(**{**both, **street})
    return found


if __name__ == "__main__":
    sys.exit(run_command(Validation, validate, "tools.training.validate"))
