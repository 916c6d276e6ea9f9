"""Choose between weights: `python -m tools.training.validate MODEL... --photos SET... --textures FOLDER`.

Sets and pictures must be none of those that weights were trained on, nor those of the final tables.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from manyview.cli.console import Bars
from manyview.datasets import read_posed_set
from manyview.datasets.posed_set import PosedSet
from manyview.errors import UsageError
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
MEAN = "mean of photographs"
Figures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Validation:
    """Print poses and focal lengths of weights on photographs and on rendered scenes, dense attention."""

    models: tyro.conf.Positional[tuple[str, ...]]
    """Folders of runs, files of weights or names. Several are columns, with AUC@30 and the mean of all other
    figures on photographs."""
    photos: tuple[Path, ...] = ()
    """Folders of photographs with cameras: all views (at most 24), and groups of 8 neighbours."""
    textures: Path | None = None
    """Folder of pictures for the surfaces of rendered scenes; none: only the presets."""
    size: int | None = None
    """Longer side of the photographs, in pixels; none: the model's."""
    scenes: int = 24
    """Rendered scenes of each kind."""
    scene_size: tuple[int, int] = (80, 112)
    """Height and width of the rendered scenes, in pixels, whatever the weights were trained on."""
    json: Path | None = None
    """Also write all figures, by model and set, to this file."""


def validate(args: Validation) -> None:
    """Measure, print a table line by line, and write the figures."""
    if not args.models:
        raise UsageError("name at least one model: the folder of a run, a file of weights or a name")
    found: dict[str, Figures] = {name: {} for name in args.models}
    print(heading(found))
    with Bars() as bars:
        for name in measure(args, found, bars):
            print(line(found, name), flush=True)
    if args.json is not None:
        args.json.write_text(json.dumps(found, indent=1), "utf-8")


def measure(
    args: Validation, found: Mapping[str, Figures], progress: Callable[[str, int, int], None]
) -> Iterator[str]:
    """Put the figures of each set into `found`, by model and set; yields the set's name once all have it."""
    models = {name: trained_model(Path(name)) if has_state(Path(name)) else load_trainable(name)
              for name in args.models}  # fmt: skip
    rendered = rendered_scenes(args.textures)
    sets: tuple[Path | str, ...] = (*args.photos, *rendered)
    done, total = 0, len(sets) * len(models)
    for what in sets:
        name = what if isinstance(what, str) else what.name
        for label, model in models.items():
            if isinstance(what, str):
                found[label][name] = on_rendered(model, rendered[what], args.scenes, args.scene_size)
            else:
                found[label][name] = on_photographs(model, read_posed_set(what), args.size)
            done += 1
            progress("validate", done, total)
        yield name
        if args.photos and what == args.photos[-1]:
            for own in found.values():
                own[MEAN] = {c: float(np.mean([row[c] for row in own.values()])) for c in own[name]}
            yield MEAN


def heading(found: Mapping[str, Figures]) -> str:
    """First lines of a table in Markdown: figures of one model, or one figure of several models."""
    cells = ("set", *_COLUMNS) if len(found) == 1 else ("set", "figure", *found)
    return f"| {' | '.join(cells)} |\n|{'---|' * len(cells)}"


def line(found: Mapping[str, Figures], name: str) -> str:
    """A set's line of the table; the mean of photographs has one for each figure of several models."""
    rows = [own[name] for own in found.values()]
    if len(rows) == 1:
        return f"| {name} | " + " | ".join(_cell(rows[0].get(column)) for column in _COLUMNS) + " |"
    figures = [column for column in _COLUMNS if column in rows[0]] if name == MEAN else ["auc_30"]
    return "\n".join(f"| {name} | {f} | " + " | ".join(_cell(row[f]) for row in rows) + " |" for f in figures)


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


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


def on_rendered(model: VGGT, scenes: SceneOptions, count: int, size: tuple[int, int]) -> dict[str, float]:
    """Figures of held-out rendered scenes of 8 views."""
    found = evaluate_synthetic(model, ("dense",), count, _VIEWS, size, scenes, baselines=False)
    figures = found.rows["dense"]
    return {
        "auc_5": _number(figures["auc_5"]),
        "auc_30": _number(figures["auc_30"]),
        "rotation": _number(figures["rotation_median_deg"]),
        "direction": _number(figures["translation_median_deg"]),
        "abs_rel": _number(figures["abs_rel"]),
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
        around = {"kind": "outdoor", "arrangement": "statue", "motion": "around"}
        found["around"] = SceneOptions.medium(**{**both, **around})
        street = {"kind": "outdoor", "arrangement": "street", "motion": "forward"}
        found["street"] = SceneOptions.medium(**{**both, **street})
    return found


if __name__ == "__main__":
    sys.exit(run_command(Validation, validate, "tools.training.validate"))
