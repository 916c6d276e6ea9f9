"""Weights that hold only the tensors in which they differ from others, and name those as their base.

The metadata entry "base" has the base's name and the SHA-256 of what is taken from it, in half precision.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...errors import UsageError, WeightsError
from .metadata import stored_base
from .read import Checkpoint, read_checkpoint


def without_base(
    tensors: Mapping[str, Tensor], base: Checkpoint, name: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The float16 tensors that differ from those of `base`, and the metadata entry for the others.

    Raises:
        UsageError: The base is a part itself, has tensors of other names, or none or all of the tensors.
    """
    inner = stored_base(base)
    if inner is not None:
        raise UsageError(
            f"{name} takes tensors from {inner.weights} itself: name {inner.weights} as the base"
        )
    unknown = sorted(base.tensors.keys() - tensors.keys())
    if unknown:
        raise UsageError(
            f"{name} has {unknown[0]}, which these weights lack: they need another base, or none"
        )
    taken = {key: half for key, half in _half(base.tensors).items() if _bits(half) == _bits(tensors[key])}
    if not taken or len(taken) == len(tensors):
        what = "all tensors" if taken else "no tensor"
        raise UsageError(f"these weights have {what} in common with {name}: write them without a base")
    kept = {key: tensor for key, tensor in tensors.items() if key not in taken}
    return kept, {"weights": name, "sha256": _sha256(taken)}


def with_base(checkpoint: Checkpoint, named: Callable[[str], Path | None]) -> Checkpoint:
    """The checkpoint with the tensors that it takes from its base; unchanged if it names none.

    Args:
        checkpoint: As `read_checkpoint` returns it.
        named: Path of weights that have a name, None for other names: a file beside the checkpoint's.

    Raises:
        WeightsError: The base is not there, is a part itself, or has other tensors.
    """
    base = stored_base(checkpoint)
    if base is None:
        return checkpoint
    path = named(base.weights) or _beside(checkpoint, base.weights)
    found = read_checkpoint(path)
    taken = _half({key: t for key, t in found.tensors.items() if key not in checkpoint.tensors})
    if stored_base(found) is not None or _sha256(taken) != base.sha256:
        raise WeightsError(
            f"{checkpoint.source} takes tensors from {base.weights}, but those of {path} are not what it was "
            "made with: take the two from the same release or training run"
        )
    return dataclasses.replace(checkpoint, tensors={**checkpoint.tensors, **taken})


def _beside(checkpoint: Checkpoint, name: str) -> Path:
    folder = checkpoint.files[0].parent
    if Path(name).name != name or not os.path.isfile(folder / name):
        raise WeightsError(
            f"{checkpoint.source} takes tensors from {name}, which is not beside it: put that file into "
            f"{folder}"
        )
    return folder / name


def _half(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: tensor.to(torch.float16) for key, tensor in tensors.items()}


def _bits(tensor: Tensor) -> tuple[tuple[int, ...], bytes]:
    return tuple(tensor.shape), tensor.contiguous().numpy().tobytes()


def _sha256(tensors: Mapping[str, Tensor]) -> str:
    """Of names, shapes and bytes of float16 tensors, in order of their names."""
    whole = hashlib.sha256()
    for key in sorted(tensors):
        shape, data = _bits(tensors[key])
        whole.update(f"{key} {list(shape)}\n".encode())
        whole.update(data)
    return whole.hexdigest()
