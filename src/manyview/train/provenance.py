"""Provenance stored with trained weights: recipe, initial weights, licence."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files.paths import user_path
from ..models.checkpoints.metadata import stored_metadata
from ..models.checkpoints.read import read_checkpoint
from ..models.families import find_model
from ..models.load import bundled_path
from .config import TrainConfig
from .log import read_log

LICENCE = "Apache-2.0"


def recipe(config: TrainConfig, header: Mapping[str, Any], log: Path) -> dict[str, Any]:
    """How weights were trained, from the config, the header of the state and the log of the run."""
    init = "" if config.init is None else f" --init {Path(config.init).name}"
    return {
        "command": f"manyview train {_command(config)} --config {config.name}{init}",
        "start": None if config.init is None else initial_weights(config.init),
        "config": _stored_config(config),
        "steps": header["step"],
        "scenes": header["scenes"],
        "images": header["frames"],
        "minutes": round(header["seconds"] / 60, 1),
        "progress": round(header["progress"], 4),
        "parts": run_parts(log),
    }


def licence_after(start: str | None) -> str:
    """Licence of weights that started from `start`, a name, hub id, file or folder as in `load`.

    Weights derived from others stay under their licence, or "not stated".
    """
    if start is None:
        return LICENCE
    row = find_model(start)
    if row is not None:
        return row.licence if row.licence != "not stated" else _unknown(row.name)
    path = user_path(start)
    stored = stored_metadata(read_checkpoint(path)).get("licence") if path.exists() else None
    return stored if isinstance(stored, str) else _unknown(path.name)


def _unknown(name: str) -> str:
    return f"not stated: trained on from {name}"


def _stored_config(config: TrainConfig) -> dict[str, Any]:
    """The config without the model and initial weights, which are stored beside it; folders by name."""
    stored = {key: value for key, value in config.to_json().items() if key not in ("model", "init")}
    for stage in stored["stages"]:
        for mix in stage["scenes"]:
            for options in (mix["start"], mix["end"]):
                if "pictures" in options:
                    options["pictures"] = Path(options["pictures"]).name
            if mix["posed"] is not None:
                mix["posed"]["folders"] = [Path(folder).name for folder in mix["posed"]["folders"]]
    return stored


def _command(config: TrainConfig) -> str:
    if config.trained_for is not None:
        return "flash"
    return "base" if all(set(stage.plans) == {"dense"} for stage in config.stages) else "elastic"


def initial_weights(name: str) -> dict[str, Any]:
    """Name of the initial weights, and their digest and recipe if they are a file or in the package."""
    row = find_model(name)
    path = Path(name) if row is None or row.hub_id is not None else bundled_path(row)
    if not path.is_file():
        return {"weights": Path(name).name}
    checkpoint = read_checkpoint(path)
    recipe = stored_metadata(checkpoint).get("recipe")
    return {"weights": Path(name).name, "sha256": checkpoint.sha256(), "recipe": recipe}


def run_parts(log: Path) -> list[dict[str, Any]]:
    """Parts of a run: the step each began at, its processes, and the minutes of the schedule."""
    starts = [line for line in (read_log(log) if log.is_file() else []) if line["kind"] == "start"]
    return [
        {"step": s["step"], "processes": s["processes"], "schedule_minutes": s["config"].get("minutes")}
        for s in starts
    ]
