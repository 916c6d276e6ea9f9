"""The state of a run on disk: weights, optimiser and progress in small files, replaced atomically.

A folder `state-<step>` holds safetensors pieces of at most 16 MB and `state.json`; `latest.json` names the
current one and is replaced only after all pieces are on disk, so a run cut at any moment resumes.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import OutputError, WeightsError
from ..files.schema import Count, Duration, Natural, check_regular, convert, read_json, schema_errors
from ..files.transaction import flush, staging
from ..files.writing import atomic_file

PIECE_BYTES = 16_000_000
POINTER_NAME = "latest.json"
_REMEDY = "start the run again in another folder"


class _Latest(msgspec.Struct):
    """`latest.json`."""

    state: Annotated[str, msgspec.Meta(pattern="^state-[0-9a-z-]+$")]


class _State(msgspec.Struct):
    """`state.json`."""

    pieces: Count
    shapes: dict[str, tuple[Natural, ...]]
    header: dict[str, Any]


class RunHeader(msgspec.Struct):
    """The header of a run: its config and how far it came."""

    config: dict[str, Any]
    step: Natural
    progress: Annotated[float, msgspec.Meta(ge=0, le=1)]
    seconds: Duration
    scenes: Natural
    frames: Natural
    optimiser_steps: dict[str, Natural]


@dataclass(frozen=True)
class RunState:
    """Named tensors (weights, auxiliary heads, optimiser moments) and a JSON-able header."""

    tensors: Mapping[str, Tensor]
    header: Mapping[str, Any]


def _pieces(tensors: Mapping[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """Group flattened tensors into pieces below `limit` bytes; a longer tensor is cut into `name#n`."""
    pieces: list[dict[str, Tensor]] = [{}]
    room = limit
    for name in sorted(tensors):
        flat = tensors[name].detach().cpu().contiguous().flatten()
        length = max(1, limit // flat.element_size())
        for number, part in enumerate(flat.split(length) if flat.numel() else [flat]):
            size = part.numel() * part.element_size()
            if size > room and pieces[-1]:
                pieces.append({})
                room = limit
            pieces[-1][f"{name}#{number}"] = part.clone()
            room -= size
    return pieces


def save_state(folder: Path, state: RunState, step: int, piece_bytes: int = PIECE_BYTES) -> None:
    """Write the state of `step` and make it the latest; the one before it is removed afterwards."""
    # The header of safetensors counts too; leave it a little room.
    pieces = _pieces(state.tensors, piece_bytes - min(100_000, piece_bytes // 8))
    target = folder / f"state-{step:08d}"
    if target.exists():  # perhaps the latest, which stays until this one is
        target = target.with_name(f"{target.name}-{uuid.uuid4().hex[:4]}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with staging(folder) as stage:
            for number, piece in enumerate(pieces):
                save_file(piece, stage / f"piece-{number:03d}.safetensors")
            shapes = {name: list(tensor.shape) for name, tensor in state.tensors.items()}
            header = {"pieces": len(pieces), "shapes": shapes, "header": dict(state.header)}
            (stage / "state.json").write_text(json.dumps(header), "utf-8")
            for path in (*stage.iterdir(), stage):
                flush(path)
            stage.rename(target)
        with atomic_file(folder / POINTER_NAME) as part:
            part.write_text(json.dumps({"state": target.name}), "utf-8")
            flush(part)
        flush(folder)
    except (OSError, SafetensorError) as error:
        raise OutputError(
            f"cannot write the training state in {folder}: {error}; free some space and resume"
        ) from error
    remove_old_states(folder, target)


def remove_old_states(folder: Path, latest: Path | None = None) -> None:
    """Remove all states but the latest; WeightsError if which one that is cannot be read."""
    kept = latest or _latest(folder)
    if kept.is_dir():
        for old in folder.glob("state-*"):
            if old != kept and old.is_dir() and not old.is_symlink():
                shutil.rmtree(old, ignore_errors=True)


def has_state(folder: Path) -> bool:
    """Whether the folder holds a run that can be resumed."""
    return (folder / POINTER_NAME).is_file()


def load_state(folder: Path) -> RunState:
    """Read the latest state; a damaged or missing piece is a `WeightsError` that names the folder."""
    where = _latest(folder)
    try:
        header = read_json(where / "state.json", _State, remedy=_REMEDY, error=WeightsError)
        flat: dict[str, list[tuple[int, Tensor]]] = {}
        for number in range(header.pieces):
            piece = where / f"piece-{number:03d}.safetensors"
            check_regular(piece)
            for key, part in load_file(piece).items():
                tensor_name, _, index = key.rpartition("#")
                flat.setdefault(tensor_name, []).append((int(index), part))
        tensors = {
            key: torch.cat([part for _, part in sorted(flat[key], key=lambda p: p[0])]).reshape(shape)
            for key, shape in header.shapes.items()
        }
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise WeightsError(f"the training state in {folder} is damaged or incomplete: {error}") from error
    return RunState(tensors, header.header)


def check_header(state: RunState, source: str) -> None:
    """Raise WeightsError unless the header of a state is that of a run."""
    with schema_errors(source, _REMEDY, WeightsError):
        convert(dict(state.header), RunHeader)


def _latest(folder: Path) -> Path:
    return folder / read_json(folder / POINTER_NAME, _Latest, remedy=_REMEDY, error=WeightsError).state
