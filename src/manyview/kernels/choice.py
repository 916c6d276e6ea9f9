"""Which implementation runs: plain PyTorch operations, or Triton kernels that fuse several of them."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from contextvars import ContextVar

import torch
from torch import Tensor

from ..errors import UsageError

KERNELS = ("plain", "triton")
_chosen: ContextVar[str] = ContextVar("manyview_kernels", default="plain")


@contextlib.contextmanager
def use_kernels(name: str, device: torch.device) -> Iterator[None]:
    """Choose kernels for what runs inside; a context, because operations lie far below the run that chooses.

    Raises as `check_kernels` does.
    """
    check_kernels(name, device)
    # Triton launches on the current card, wherever the tensors are.
    on_card = name == "triton" and device.type == "cuda" and not interpreted()
    token = _chosen.set(name)
    try:
        with torch.cuda.device(device) if on_card else contextlib.nullcontext():
            yield
    finally:
        _chosen.reset(token)


def check_kernels(name: str, device: torch.device) -> None:
    """Raises UsageError where Triton is missing, or the device is neither CUDA nor interpreted
    (`TRITON_INTERPRET=1`), and ValueError for an unknown name."""
    if name not in KERNELS:
        raise ValueError(f"unknown kernels {name!r}: choose from {', '.join(KERNELS)}")
    if name == "triton":
        if importlib.util.find_spec("triton") is None:
            raise UsageError("Triton kernels need the triton package: pip install 'manyview[kernels]'")
        if device.type != "cuda" and not interpreted():
            raise UsageError(f"Triton kernels run on CUDA cards, not on {device.type}: use the plain ones")


def fused(*tensors: Tensor) -> bool:
    """Whether these tensors go through a Triton kernel: chosen, on its device, and no gradients wanted.

    The kernels have no backward pass; with gradients the plain operations run whatever was chosen, so name
    parameters too. They compute in float32, so float64 is not for them. Compiled code is the compiler's.
    """
    if torch.compiler.is_compiling() or _chosen.get() != "triton" or not tensors:
        return False
    if torch.is_grad_enabled() and any(x.requires_grad for x in tensors):
        return False
    if any(x.dtype == torch.float64 for x in tensors):
        return False
    return all(x.is_cuda or (interpreted() and x.device.type == "cpu") for x in tensors)


def interpreted() -> bool:
    """Whether Triton runs kernels step by step on the CPU, as tests do."""
    return os.environ.get("TRITON_INTERPRET") == "1"
