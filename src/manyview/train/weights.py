"""From a training run to a checkpoint in half precision, without auxiliary heads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import OutputError, WeightsError
from ..files.writing import atomic_file, make_readable
from ..models.vggt.model import VGGT
from .config import TrainConfig, config_from_json
from .log import LOG_NAME
from .provenance import licence_after, recipe
from .state import RunState, check_header, load_state


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
    check_header(state, f"the run in {out_dir}")
    return config_from_json(state.header["config"], f"the run in {out_dir}")


def export_weights(
    out_dir: str | Path, path: str | Path, numbers: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Write the latest state of a run as a float16 safetensors checkpoint.

    Args:
        out_dir: folder of the run.
        path: the file, replaced atomically. It has the public VGGT names; the metadata key `manyview` is a
            JSON object with `config`, `licence`, `recipe` (the training config and how far it went),
            `numbers`, and `accel` if the config names the plan the weights are for or `early_layers`.
        numbers: stored as they are, for instance the tables of `release_numbers`.

    Returns:
        The metadata.

    Raises:
        WeightsError: a missing or damaged run, or weights that are not finite in half precision.
        OutputError: the file cannot be written.
    """
    state = load_state(Path(out_dir))
    config = _config_of(state, out_dir)
    half = {}
    for name, tensor in _model_tensors(state.tensors).items():
        half[name] = tensor.to(torch.float16).contiguous()
        if not bool(half[name].isfinite().all()):
            raise WeightsError(f"'{name}' of the run in {out_dir} is not finite in half precision")
    metadata = {
        "config": state.header["config"]["model"],
        "licence": licence_after(config.init),
        "recipe": recipe(config, state.header, Path(out_dir) / LOG_NAME),
        "numbers": dict(numbers or {}),
    }
    accel = {"early": config.early_layers, "plan": config.trained_for}
    if any(value is not None for value in accel.values()):
        metadata["accel"] = {key: value for key, value in accel.items() if value is not None}
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as partial:
            save_file(half, partial, metadata={"manyview": json.dumps(metadata), "format": "pt"})
            make_readable(partial)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the weights to {target}: {error}") from error
    return metadata


def _model_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a state, or their running mean if there is one."""
    return {
        name.removeprefix("model/"): tensors.get(f"ema/{name}", tensor)
        for name, tensor in tensors.items()
        if name.startswith("model/")
    }
