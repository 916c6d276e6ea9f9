"""Where a figure was measured: hardware, versions, kernels and the commit."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..._version import __version__
from .machine import inspect_machine, precision_name


def describe(device: torch.device, dtype: torch.dtype, num_heads: int, head_dim: int) -> dict[str, Any]:
    """Everything about this machine and installation that a reader of the figures needs, as JSON types."""
    machine = inspect_machine(device)
    result: dict[str, Any] = {
        "device": str(device),
        "device_name": machine.name if device.type == "cuda" else cpu_name(),
        "memory_bytes": machine.total_bytes,
        "precision": precision_name(dtype),
        "attention_kernel": attention_kernel(device, dtype, num_heads, head_dim),
        "attention_backends": attention_backends(device, dtype, num_heads, head_dim),
        "triton": _version("triton"),
        "threads": torch.get_num_threads(),
        "cpu_cores": os.cpu_count(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "manyview": __version__,
        "commit": commit(),
    }
    if device.type == "cuda":
        result["cuda"] = torch.version.cuda
        result["compute_capability"] = list(torch.cuda.get_device_capability(device))
        result["float32_matmul_precision"] = torch.get_float32_matmul_precision()
    return result


def cpu_name() -> str:
    """Name of the processor as the system reports it."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text(errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def attention_kernel(device: torch.device, dtype: torch.dtype, num_heads: int, head_dim: int) -> str:
    """The implementation PyTorch picks for long sequences, such as "flash_attention"."""
    if device.type == "mps":
        return "mps"
    q = torch.zeros(1, num_heads, 1024, head_dim, device=device, dtype=dtype)
    return SDPBackend(torch._fused_sdp_choice(q, q, q)).name.lower()


def attention_backends(device: torch.device, dtype: torch.dtype, num_heads: int, head_dim: int) -> list[str]:
    """The implementations of PyTorch's attention that run here, tried one by one."""
    q = torch.zeros(1, num_heads, 256, head_dim, device=device, dtype=dtype)
    found = []
    for name in ("FLASH_ATTENTION", "CUDNN_ATTENTION", "EFFICIENT_ATTENTION", "MATH"):
        try:
            with warnings.catch_warnings(), sdpa_kernel([getattr(SDPBackend, name)]), torch.no_grad():
                warnings.simplefilter("ignore")  # PyTorch explains at length why one cannot run
                F.scaled_dot_product_attention(q, q, q)
        except RuntimeError:
            continue
        found.append(name.lower())
    return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Commit of the checkout this package runs from, with "+changes" if files differ; None outside of one."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, timeout=10
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed package may lie inside the repository of somebody else.
    if git("ls-files", "--error-unmatch", here.name) is None:
        return None
    changed = git("status", "--porcelain", "--untracked-files=no")
    head = git("rev-parse", "HEAD")
    return None if head is None else head + ("+changes" if changed else "")
