"""Weights and inputs made from names and shapes alone, bit for bit the same on every machine.

Only the raw 64-bit stream of the PCG64 generator is used, and operations that IEEE 754 rounds exactly.
With n uniform in [-sqrt 3, sqrt 3), one draw per element in row-major order, seeded by the CRC-32 of salt
and name, a tensor holds:

    *.gamma                             0.2 + 0.05 n
    *.weight with one dimension         1 + 0.1 n
    *.bias, *.in_proj_bias              0.02 n
    *.weight, *.in_proj_weight else     gain n / sqrt(fan_in)
    anything else                       0.3 n

The gain is 1, except where it keeps outputs tame: see `_gain`. The fan-in is the product of all
dimensions but the first, or the first one for transposed convolutions.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

_TRANSPOSED = re.compile(r"(^|\.)(resize_layers\.[01]|upsample_blocks\.\d+\.0\.0)\.weight$")
_LAST_OF_CAMERA = re.compile(r"(^|\.)(pose_branch\.fc2|camera_branch\.2)\.(weight|bias)$")
_QUIET = re.compile(r"(^|\.)(linear_out|metric_head)\.weight$")
_DENSE_OUTPUT = re.compile(r"(^|\.)(proj|proj_conf)\.weight$")
_FLOW = re.compile(r"(^|\.)flow_head\.weight$")
# Offsets of (translation, quaternion xyzw, two fields of view) that keep a random camera sensible.
_CAMERA_OFFSETS = {
    "pose_branch.fc2": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.5, 0.25, 0.25),
    "camera_branch.2": (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.9, 0.9),
}
_SQRT3 = math.sqrt(3.0)


def unit_noise(name: str, shape: Sequence[int], salt: str = "") -> np.ndarray:
    """Float64 noise of zero mean and unit variance that depends on salt, name and position only."""
    count = math.prod(shape)
    raw = np.atleast_1d(np.random.PCG64(zlib.crc32((salt + name).encode("utf-8"))).random_raw(count))
    unit = (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return ((2.0 * unit - 1.0) * _SQRT3).reshape(tuple(shape))


def seeded_tensor(name: str, shape: Sequence[int], salt: str = "") -> Tensor:
    """The float32 tensor that stands for the parameter `name`."""
    shape = tuple(int(side) for side in shape)
    noise = unit_noise(name, shape, salt)
    kind = name.rsplit(".", 1)[-1]
    if kind == "gamma":
        values = 0.2 + 0.05 * noise
    elif kind == "weight" and len(shape) == 1:
        values = 1.0 + 0.1 * noise
    elif kind in ("bias", "in_proj_bias"):
        values = 0.02 * noise
        camera = _LAST_OF_CAMERA.search(name)
        if camera is not None and shape == (9,):
            values = values + np.asarray(_CAMERA_OFFSETS[camera.group(2)])
    elif kind in ("weight", "in_proj_weight"):
        fan_in = shape[0] if _TRANSPOSED.search(name) else math.prod(shape[1:])
        values = _gain(name, shape) * noise / math.sqrt(fan_in)
    else:
        values = 0.3 * noise
    return torch.from_numpy(np.ascontiguousarray(values.astype(np.float32)))


def _gain(name: str, shape: tuple[int, ...]) -> float:
    if _LAST_OF_CAMERA.search(name) and shape[0] == 9:
        return 0.25
    if _QUIET.search(name) or (_DENSE_OUTPUT.search(name) and len(shape) == 4 and shape[2] == 1):
        return 0.35
    return 0.05 if _FLOW.search(name) else 1.0


def seeded_state_dict(inventory: Mapping[str, Mapping[str, Any]], salt: str = "") -> dict[str, Tensor]:
    """Every learnable tensor of an inventory {key: {"shape", "kind"}}; buffers are left out."""
    return {
        key: seeded_tensor(key, entry["shape"], salt)
        for key, entry in inventory.items()
        if entry.get("kind", "param") == "param"
    }


_BUFFERS = {"image_mean": (0.485, 0.456, 0.406), "image_std": (0.229, 0.224, 0.225)}
_PERIOD_BASE = 100.0


def constant_buffers(inventory: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Persistent buffers of an inventory with their known constants; those without a rule are left out."""
    known = {
        key: _constant(key.rsplit(".", 1)[-1], tuple(entry["shape"]))
        for key, entry in inventory.items()
        if entry.get("kind") == "buffer"
    }
    return {key: value for key, value in known.items() if value is not None}


def _constant(name: str, shape: tuple[int, ...]) -> Tensor | None:
    if name in _BUFFERS:
        return torch.tensor(_BUFFERS[name]).reshape(shape)
    if name == "bias_mask":  # queries, keys, values
        return torch.tensor((1.0, 0.0, 1.0)).repeat_interleave(shape[0] // 3)
    if name == "periods":
        exponent = 2 * torch.arange(shape[0], dtype=torch.float32) / (2 * shape[0])
        return _PERIOD_BASE**exponent
    return None


def seeded_input(
    name: str, shape: Sequence[int], salt: str = "", low: float = -1.0, high: float = 1.0
) -> Tensor:
    """Float32 input, uniform in [low, high)."""
    noise = unit_noise("input:" + name, shape, salt) / _SQRT3
    values = low + (noise + 1.0) * 0.5 * (high - low)
    return torch.from_numpy(np.ascontiguousarray(values.astype(np.float32)))
