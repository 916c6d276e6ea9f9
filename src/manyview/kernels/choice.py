"""Which implementation runs: plain PyTorch operations, or Triton kernels that fuse several of them."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import logging
import os
from typing import Literal

import torch
from torch import Tensor

from ..errors import UsageError
from .trial import compile_problem

logger = logging.getLogger(__name__)

# "norms": norms, residual sums, rotations, and the merge of attention's terms; "triton": token merging too.
KERNELS = ("plain", "norms", "triton")
_PARTS = {"norms": ("norms", "triton"), "merging": ("triton",)}


def check_kernels(kernels: str, device: torch.device) -> None:
    """Whether these kernels run on a device.

    Raises:
        ValueError: for an unknown name.
        UsageError: where Triton is missing or cannot compile, or the device is neither CUDA nor interpreted
            (`TRITON_INTERPRET=1`).
    """
    if kernels not in KERNELS:
        raise ValueError(f"unknown kernels {kernels!r}: choose from {', '.join(KERNELS)}")
    if kernels != "plain":
        if importlib.util.find_spec("triton") is None:
            raise UsageError("Triton kernels need the triton package: pip install 'manyview[kernels]'")
        if device.type not in ("cuda", "meta") and not interpreted():
            raise UsageError(f"Triton kernels run on CUDA devices, not on {device.type}: use the plain ones")
        problem = compile_problem(device) if device.type == "cuda" and torch.cuda.is_available() else None
        if problem is not None:
            raise UsageError(
                f"Triton cannot compile kernels for {device} ({problem}): take --kernels plain, or install a "
                "C compiler and Python's header files"
            )


def pick_kernels(kernels: str, device: torch.device) -> str:
    """One of `KERNELS` for a run on a device.

    "auto" is "norms" on CUDA where Triton is installed and compiles, else "plain"; why it is not "norms" on
    CUDA is logged once. All else is checked by `check_kernels`, and raises as that does.
    """
    if kernels == "auto":
        return _auto_kernels(device)
    check_kernels(kernels, device)
    return kernels


@functools.lru_cache(maxsize=8)
def _auto_kernels(device: torch.device) -> str:
    if device.type != "cuda":
        return "plain"
    try:
        check_kernels("norms", device)
    except UsageError as error:
        logger.warning("plain kernels run in place of fused ones: %s", error)
        return "plain"
    return "norms"


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
