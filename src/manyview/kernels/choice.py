"""Which implementation runs: plain PyTorch operations, or Triton kernels that fuse several of them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import Literal

import torch
from torch import Tensor

from ..errors import UsageError

# "norms": norms, residual sums, rotations, and the merge of attention's terms; "triton": token merging too.
KERNELS = ("plain", "norms", "triton")
_PARTS = {"norms": ("norms", "triton"), "merging": ("triton",)}


def check_kernels(kernels: str, device: torch.device) -> None:
    """Whether these kernels run on a device.

    Raises:
        ValueError: for an unknown name.
        UsageError: where Triton is missing, or the device is neither CUDA nor interpreted
            (`TRITON_INTERPRET=1`).
    """
    if kernels not in KERNELS:
        raise ValueError(f"unknown kernels {kernels!r}: choose from {', '.join(KERNELS)}")
    if kernels != "plain":
        if importlib.util.find_spec("triton") is None:
            raise UsageError("Triton kernels need the triton package: pip install 'manyview[kernels]'")
        if device.type not in ("cuda", "meta") and not interpreted():
            raise UsageError(f"Triton kernels run on CUDA devices, not on {device.type}: use the plain ones")


def launch_device(kernels: str, device: torch.device) -> contextlib.AbstractContextManager[object]:
    """Checks the kernels as `check_kernels` does, and makes a CUDA device current where Triton needs it.

    Triton launches on the current device, wherever the tensors are. Where PyTorch sees no CUDA device,
    tensors on one are fake.
    """
    check_kernels(kernels, device)
    if kernels != "plain" and device.type == "cuda" and torch.cuda.is_available():
        return torch.cuda.device(device)
    return contextlib.nullcontext()


def fused(kernels: str, *tensors: Tensor, part: Literal["norms", "merging"] = "norms") -> bool:
    """Whether these tensors go through a Triton kernel: asked for, on its device, and no gradients wanted.

    `part`: of the kernels, those of token merging, or all others. Fake and meta tensors go the real
    ones' way.
    The kernels have no backward pass; with gradients the plain operations run whatever was asked for, so name
    parameters too. They compute in float32, so float64 is not for them. Compiled code is the compiler's.
    """
    if kernels not in _PARTS[part] or torch.compiler.is_compiling() or not tensors:
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    if any(x.dtype == torch.float64 for x in tensors):
        return False
    return all(x.is_cuda or x.is_meta or (interpreted() and x.device.type == "cpu") for x in tensors)


def interpreted() -> bool:
    """Whether Triton runs kernels step by step on the CPU, as tests do."""
    return os.environ.get("TRITON_INTERPRET") == "1"
