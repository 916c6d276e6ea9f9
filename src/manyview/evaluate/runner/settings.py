"""All that decides a figure, as JSON types and as digests: results are taken over only where they agree."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...datasets import Dataset
from ...datasets.posed_set import PosedSet
from ...models.network import Network
from ...reconstruction.plan.environment import describe as describe_machine
from ...reconstruction.plan.machine import pick_device, pick_dtype
from ...reconstruction.run.options import ReconstructOptions
from ..protocols.frames import Frames
from ..protocols.protocol import Protocol
from .chosen_frames import FrameLists


def digest(value: Any) -> str:
    """Of JSON types, whatever the order of their keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def weights_digest(model: Network) -> str:
    """The digest of the weights' file, or of all parameters of a model that came from no file."""
    if model.info is not None:
        return model.info.weights_sha256
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def inputs_digest(posed: PosedSet) -> str:
    """Of every byte that is read for a scene: images, depth maps with masks, cloud, cameras, intrinsics."""
    whole = hashlib.sha256()
    clouds = (posed.cloud,) if posed.cloud else ()
    for path in (*posed.images, *(posed.depth.files if posed.depth else ()), *clouds):
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    for array in (posed.cam_from_world, posed.intrinsics):
        whole.update(b"none" if array is None else np.ascontiguousarray(array).tobytes())
    return whole.hexdigest()


def run_options(
    model: Network, protocol: Protocol, options: ReconstructOptions | None = None
) -> ReconstructOptions:
    """Of the given options image size, device, precision and memory limit; all else is the protocol's.

    Its image size in whole patches, and its point head, as far as the model has one.
    """
    options, size, patch = options or ReconstructOptions(), protocol.image_size, model.config.patch_size
    return ReconstructOptions(
        size_policy=protocol.size_policy,
        image_size=options.image_size or (size and max(1, size // patch) * patch),
        point_head=protocol.point_head and "points" in model.available_heads,
        device=options.device,
        precision=options.precision,
        memory_limit_gib=options.memory_limit_gib,
        strict=True,
    )


def evaluation_settings(
    model: Network,
    dataset: Dataset,
    protocol: Protocol,
    frames: Frames | FrameLists | None = None,
    options: ReconstructOptions | None = None,
) -> dict[str, Any]:
    """All that decides figures but inputs and plan, as JSON types, of such an `evaluate_dataset`."""
    options = run_options(model, protocol, options)
    machine = environment(model, options)
    # What decides a figure; not how busy or large the machine is.
    decisive = ("device", "device_name", "precision", "attention_kernel", "torch", "manyview")
    if isinstance(frames, Mapping):
        chosen: Any = {name: list(names) for name, names in frames.items()}
    else:
        chosen = dataclasses.asdict(frames or protocol.frames_of(dataset.name))
    settings = {
        "dataset": dataset.name,
        "protocol": protocol.to_json(),
        "frames": chosen,
        "model": model.name,
        "weights_sha256": weights_digest(model),
        "image_size": options.image_size or model.config.image_size,
        "size_policy": options.size_policy,
        "environment": {name: machine[name] for name in decisive}
        | {"numpy": np.__version__, "scipy": _scipy()},
        "code_sha256": code_digest(),
    }
    # As it reads back from a file: tuples become lists.
    return json.loads(json.dumps(settings))


def posed_settings(
    model: Network, plans: Sequence[str], views: int, seed: int, options: ReconstructOptions
) -> dict[str, Any]:
    """The settings of such an `evaluate_posed`, as JSON types."""
    config = model.config
    return {
        "model": model.name,
        "weights_sha256": weights_digest(model),
        "plans": list(plans),
        "views": views,
        "seed": seed,
        "size_policy": config.size_policy if options.size_policy == "auto" else options.size_policy,
        "image_size": options.image_size or config.image_size,
        "environment": environment(model, options),
    }


def environment(
    model: Network, options: ReconstructOptions | None = None, dtype: torch.dtype | None = None
) -> dict[str, Any]:
    """The device of `options`, or that of the model with a trunk of `dtype`, and its software."""
    parameter, config = next(model.parameters()), model.config
    device, precision = parameter.device, dtype or parameter.dtype
    if options is not None:
        device = pick_device(options.device)
        precision = pick_dtype(device, options.precision)
    return describe_machine(device, precision, config.num_heads, config.dim // config.num_heads)


@lru_cache(maxsize=1)
def code_digest() -> str:
    """Of the package's modules and protocols that can change a figure: edits between versions change figures
    too.

    Computed once a process, as loaded modules do not change with their files.
    """
    package = Path(__file__).parents[2]
    aside = ("cli", "export", "train", "analyze", "bench", "view")
    whole = hashlib.sha256()
    for path in sorted([*package.rglob("*.py"), *package.rglob("*.toml")]):
        if path.relative_to(package).parts[0] not in aside:
            whole.update(path.relative_to(package).as_posix().encode() + path.read_bytes())
    return whole.hexdigest()


def _scipy() -> str | None:
    try:
        import scipy
    except ImportError:
        return None
    return scipy.__version__
