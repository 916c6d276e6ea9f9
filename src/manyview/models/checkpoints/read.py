"""Reading a checkpoint, file or folder, into named tensors without running anything it contains.

Tensors are views of the memory-mapped file wherever the container allows it, so that reading costs no
memory by itself. Files must not be overwritten in place while their tensors are in use; replacing a file
(write beside it, then rename) is safe.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from ...errors import UsageError, WeightsError
from ...files.schema import file_sha256
from .folder import find_weights
from .formats import Format, detect_format

logger = logging.getLogger(__name__)

_NESTED = ("model", "state_dict", "model_state_dict", "ema", "module")
_PUBLISHED = "model."  # before every name in the files of Depth Anything 3
_WRAPPERS = ("module.", "_orig_mod.", _PUBLISHED)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """Named tensors of one checkpoint, its string metadata, and where it was read from."""

    source: str
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    files: tuple[Path, ...]
    config_path: Path | None = None

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: tuple(value.shape) for key, value in self.tensors.items()}

    def sha256(self) -> str:
        """SHA-256 of the file; for several shards, of the list of their digests in order of their names."""
        digests = [file_sha256(path) for path in self.files]
        if len(digests) == 1:
            return digests[0]
        return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a weights file or a folder of one; WeightsError or UsageError names the file and the remedy."""
    path = Path(path)
    if not path.exists():
        raise UsageError(f"{path} does not exist: give a weights file, a folder with one, or a model name")
    files, config_path = find_weights(path) if path.is_dir() else ((path,), path.parent / "config.json")
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        found, extra = _read_file(file)
        twice = sorted(tensors.keys() & found.keys())
        if twice:
            raise WeightsError(
                f"{path}: {twice[0]} is stored in two shards, the second one being {file.name}"
            )
        tensors |= found
        metadata |= extra
    tensors = _unwrap(tensors, path)
    if not tensors:
        raise WeightsError(f"{path} is a checkpoint without any tensor")
    has_config = config_path is not None and config_path.is_file()
    return Checkpoint(str(path), tensors, metadata, tuple(files), config_path if has_config else None)


def _read_file(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    kind = detect_format(path)
    if kind is Format.SAFETENSORS:
        return _read_safetensors(path)
    return _tensors_of(_load_torch(path, mmap=kind is Format.TORCH_ZIP), path), {}


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {key: file.get_tensor(key) for key in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except MemoryError:
        raise
    except Exception as error:  # of types without a PyTorch twin, too
        raise WeightsError(f"{path} is truncated or damaged: {_first_line(error)}") from error


def _load_torch(path: Path, mmap: bool) -> Any:
    try:
        with warnings.catch_warnings():  # about TorchScript or old pickle protocols: the error below says so
            warnings.simplefilter("ignore")
            if path.suffix == ".safetensors":  # torch would go by that name, not by the content
                with path.open("rb") as file:
                    return torch.load(file, map_location="cpu", weights_only=True)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if "Weights only load failed" in str(error):
            raise WeightsError(
                f"{path} was refused: it holds more than plain tensors, and loading it could run code; "
                "convert it to .safetensors where you trust it"
            ) from error
        raise WeightsError(f"{path} is truncated or damaged: {_first_line(error)}") from error
    except MemoryError:
        raise
    except Exception as error:  # what a damaged pickle may end in cannot be listed
        if "TorchScript" in str(error):
            raise WeightsError(
                f"{path} is a TorchScript program, not weights: expected a .safetensors or a .pt of tensors"
            ) from error
        raise WeightsError(
            f"{path} is truncated or damaged, or not a PyTorch checkpoint: download or copy the weights again"
        ) from error


def _tensors_of(data: Any, path: Path) -> dict[str, Tensor]:
    """The mapping of names to tensors inside what a .pt file holds: itself, or nested under a usual name."""
    trail: list[str] = []
    for _ in _NESTED:  # not for ever: a table may hold itself
        if not isinstance(data, Mapping) or any(isinstance(value, Tensor) for value in data.values()):
            break
        inner = next((name for name in _NESTED if isinstance(data.get(name), Mapping)), None)
        if inner is None:
            break
        trail.append(inner)
        data = data[inner]
    if not isinstance(data, Mapping):
        raise WeightsError(f"{path} holds a {type(data).__name__}, not a table of named tensors")
    tensors = {str(key): value for key, value in data.items() if isinstance(value, Tensor)}
    if not tensors:
        keys = ", ".join(repr(key) for key in list(data)[:8]) or "nothing"
        raise WeightsError(f"{path} holds no table of named tensors: found {keys}")
    odd = [key for key, tensor in tensors.items() if not _is_plain(tensor)]
    if odd:
        raise WeightsError(f"{path}: {odd[0]} is no dense tensor in memory; save plain tensors")
    if trail:
        logger.info("%s: the weights are nested under %s", path, " / ".join(trail))
    others = [str(key) for key, value in data.items() if not isinstance(value, Tensor)]
    if others:
        logger.info("%s: entries that are not tensors are left out: %s", path, ", ".join(others[:8]))
    return tensors


def _is_plain(tensor: Tensor) -> bool:
    """False for tensors that are sparse, nested, quantised or without data, and views beyond their data."""
    if tensor.is_nested or tensor.is_quantized or tensor.layout != torch.strided:
        return False
    size = tensor.numel() * tensor.element_size()
    return tensor.device.type == "cpu" and size <= tensor.untyped_storage().nbytes()


def _unwrap(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Drop prefixes that wrappers (parallel training, compilation) put before every name."""
    while tensors:
        prefix = next((p for p in _WRAPPERS if all(key.startswith(p) for key in tensors)), None)
        if prefix is None:
            break
        level = logging.DEBUG if prefix == _PUBLISHED else logging.INFO
        logger.log(level, "%s: the prefix %r of every name is dropped", path, prefix)
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0] or type(error).__name__
