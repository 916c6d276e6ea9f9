"""From a training run to a checkpoint that anyone can load: half precision, no auxiliary heads."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import OutputError, WeightsError
from ..models.checkpoints.metadata import stored_metadata
from ..models.checkpoints.read import read_checkpoint
from ..models.vggt.model import VGGT
from .config import TrainConfig, config_from_json
from .licence import licence_after
from .log import LOG_NAME, read_log
from .state import RunState, load_state


def trained_model(out_dir: str | Path, half: bool = False) -> VGGT:
    """The model of a run's latest state, in float32; `half` rounds it as `export_weights` does."""
    state = load_state(Path(out_dir))
    model = VGGT(_config_of(state, out_dir).model)
    model.load_state_dict(_model_tensors(state.tensors))
    return (model.half().float() if half else model).eval()


def run_config(out_dir: str | Path) -> TrainConfig:
    """The config of the run in a folder."""
    return _config_of(load_state(Path(out_dir)), out_dir)


def _config_of(state: RunState, out_dir: str | Path) -> TrainConfig:
    return config_from_json(state.header["config"], f"the run in {out_dir}")


def export_weights(
    out_dir: str | Path, path: str | Path, numbers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the latest state of a run as a float16 safetensors checkpoint and return its metadata.

    The file has the public VGGT names and, under the metadata key `manyview`, a JSON object with `config`,
    `licence`, `recipe` (the training config and how far it went) and `numbers` (as given, for instance
    the table of `evaluate_synthetic`); `accel` where the recipe says which plan the weights are for
    (`plan`) or how many early layers a plan may cut (`early`). It replaces `path` at once. Errors:
    WeightsError for a missing or damaged run or weights that do not fit half precision, OutputError if it
    cannot be written.
    """
    state = load_state(Path(out_dir))
    config = _config_of(state, out_dir)
    half = {}
    for name, tensor in _model_tensors(state.tensors).items():
        half[name] = tensor.to(torch.float16).contiguous()
        if not bool(half[name].isfinite().all()):
            raise WeightsError(f"'{name}' of the run in {out_dir} is not finite in half precision")
    header = state.header
    start = config.init
    recipe = {
        "command": f"manyview train {_command(config)} --config {config.name}"
        + ("" if start is None else f" --init {Path(start).name}"),
        "start": None if start is None else start_of(start),
        "config": _told(config),
        "steps": header["step"],
        "scenes": header["scenes"],
        "images": header["frames"],
        "minutes": round(header["seconds"] / 60, 1),
        "progress": round(header["progress"], 4),
        "parts": run_parts(Path(out_dir) / LOG_NAME),
    }
    metadata = {
        "config": header["config"]["model"],
        "licence": licence_after(start),
        "recipe": recipe,
        "numbers": dict(numbers or {}),
    }
    accel = {"early": config.early_layers, "plan": config.trained_for}
    if any(value is not None for value in accel.values()):
        metadata["accel"] = {key: value for key, value in accel.items() if value is not None}
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file(half, partial, metadata={"manyview": json.dumps(metadata), "format": "pt"})
        partial.chmod(0o644)  # safetensors writes for the owner alone
        os.replace(partial, target)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the weights to {target}: {error}") from error
    return metadata


def _told(config: TrainConfig) -> dict[str, Any]:
    """The config as told with the weights: without what stands elsewhere, folders by their names."""
    told = {key: value for key, value in config.to_json().items() if key not in ("model", "init")}
    for stage in told["stages"]:
        for mix in stage["scenes"]:
            if mix["posed"] is not None:
                mix["posed"]["folders"] = [Path(folder).name for folder in mix["posed"]["folders"]]
    return told


def _command(config: TrainConfig) -> str:
    if config.trained_for is not None:
        return "flash"
    return "base" if all(set(stage.plans) == {"dense"} for stage in config.stages) else "elastic"


def start_of(name: str) -> dict[str, Any]:
    """What a run started from: the weights' name, and their digest and own recipe where the file is there."""
    path = Path(name)
    if not path.is_file():
        return {"weights": path.name}
    checkpoint = read_checkpoint(path)
    recipe = stored_metadata(checkpoint).get("recipe")
    return {"weights": path.name, "sha256": checkpoint.sha256(), "recipe": recipe}


def _model_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a state; of those with a running mean, that."""
    return {
        name.removeprefix("model/"): tensors.get(f"ema/{name}", tensor)
        for name, tensor in tensors.items()
        if name.startswith("model/")
    }


def run_parts(log: Path) -> list[dict[str, Any]]:
    """The parts of a run: the step each began at, its processes, and the minutes of the schedule."""
    starts = [line for line in (read_log(log) if log.is_file() else []) if line["kind"] == "start"]
    return [
        {"step": s["step"], "processes": s["processes"], "schedule_minutes": s["config"].get("minutes")}
        for s in starts
    ]
