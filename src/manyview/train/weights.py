"""From a training run to a checkpoint in half precision, without auxiliary heads."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..errors import OutputError, UsageError, WeightsError
from ..files.paths import user_path
from ..files.writing import atomic_file, make_readable
from ..models.checkpoints.base import without_base
from ..models.checkpoints.read import Checkpoint, read_checkpoint
from ..models.load import weights_of_name
from ..models.vggt.config import VGGTConfig
from ..models.vggt.model import VGGT
from .config import TrainConfig, config_from_json
from .log import LOG_NAME
from .provenance import licence_after, recipe
from .state import RunState, check_header, load_state


def trained_model(out_dir: str | Path, half: bool = False, image_size: int | None = None) -> VGGT:
    """The model of a run's latest state, in float32; `half` rounds it as `export_weights` does.

    `image_size` as in `export_weights`.
    """
    state = load_state(Path(out_dir))
    model = VGGT(_for_images(_config_of(state, out_dir).model, image_size))
    model.load_state_dict(_model_tensors(state.tensors))
    return (model.half().float() if half else model).eval()


def run_config(out_dir: str | Path) -> TrainConfig:
    """The config of the run in a folder."""
    return _config_of(load_state(Path(out_dir)), out_dir)


def _config_of(state: RunState, out_dir: str | Path) -> TrainConfig:
    check_header(state, f"the run in {out_dir}")
    return config_from_json(state.header["config"], f"the run in {out_dir}")


def export_weights(
    out_dir: str | Path,
    path: str | Path,
    numbers: Mapping[str, Any] | None = None,
    base: str | None = None,
    image_size: int | None = None,
) -> dict[str, Any]:
    """Write the latest state of a run as a float16 safetensors checkpoint.

    Args:
        out_dir: folder of the run.
        path: the file, replaced atomically. It has the public VGGT names; the metadata key `manyview` is a
            JSON object with `config`, `licence`, `recipe` (the training config and how far it went),
            `numbers`, `accel` if the config names the plan the weights are for (`also`: others they were
            trained under) or `early_layers`, and `base`.
        numbers: stored as they are, for instance the tables of `release_numbers`.
        base: weights whose tensors are left out where they are the same, a name or a file in the folder of
            `path`: `manyview.load` takes them from there.
        image_size: longer side in pixels that images are resized to by default, whole patches
            (None: as the run's config says).

    Returns:
        The metadata.

    Raises:
        UsageError: a base that is not there, lies elsewhere, or has no tensor in common; an image size
            that is not a whole number of patches.
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
        "config": _for_images(config.model, image_size).to_json(),
        "licence": licence_after(config.init),
        "recipe": recipe(config, state.header, Path(out_dir) / LOG_NAME),
        "numbers": dict(numbers or {}),
    }
    accel: dict[str, Any] = {"early": config.early_layers, "plan": config.trained_for}
    if config.trained_for is not None:
        accel["also"] = list(config.fixed_plans[1:]) or None
    if any(value is not None for value in accel.values()):
        metadata["accel"] = {key: value for key, value in accel.items() if value is not None}
    target = Path(path)
    if base is not None:
        half, metadata["base"] = without_base(half, *base_weights(base, target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target) as partial:
            save_file(half, partial, metadata={"manyview": json.dumps(metadata), "format": "pt"})
            make_readable(partial)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"cannot write the weights to {target}: {error}") from error
    return metadata


def _for_images(network: VGGTConfig, image_size: int | None) -> VGGTConfig:
    if image_size is None:
        return network
    if image_size < 1 or image_size % network.patch_size:
        raise UsageError(
            f"the image size {image_size} is not a multiple of the {network.patch_size} pixels of a patch"
        )
    return dataclasses.replace(network, image_size=image_size)


def base_weights(base: str, target: Path) -> tuple[Checkpoint, str]:
    """The base of weights in the file `target`, by name or beside it, and what that file calls it.

    Raises UsageError for one that could not be found when `target` is loaded.
    """
    named = weights_of_name(base)
    if named is not None:
        return read_checkpoint(named), base
    path, place = user_path(base).resolve(), target.resolve()
    if path.parent != place.parent or path == place:
        raise UsageError(
            f"base weights {base}: give a name, or another file in {place.parent}, where loading "
            f"{target.name} looks for it"
        )
    return read_checkpoint(path), path.name


def _model_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a state, or their running mean if there is one."""
    return {
        name.removeprefix("model/"): tensors.get(f"ema/{name}", tensor)
        for name, tensor in tensors.items()
        if name.startswith("model/")
    }
