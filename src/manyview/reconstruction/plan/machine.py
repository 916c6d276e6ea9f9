"""The machine of a run: device, precision, free memory, speed; queried when running."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch

from ...attention.softmax import bf16_cpu as cpu_products
from ...errors import UsageError
from ...models.device import pick_device as pick_device

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_CGROUP = Path("/sys/fs/cgroup")


@dataclasses.dataclass(frozen=True)
class Machine:
    """A device and what it can hold. `free_bytes` is what a new run may allocate."""

    device: torch.device
    name: str
    free_bytes: int
    total_bytes: int

    @property
    def usable_bytes(self) -> float:
        """What a run may plan for; the rest is the allocator's and other programs'."""
        return 0.9 * self.free_bytes


def pick_dtype(device: torch.device, precision: str = "auto") -> torch.dtype:
    """Precision of the trunk: "auto" is bf16 where the device multiplies it, else fp16 on CUDA, else fp32."""
    if precision == "auto":
        if multiplies_bf16(device):
            return torch.bfloat16
        return torch.float16 if device.type == "cuda" else torch.float32
    if precision not in PRECISIONS:
        raise UsageError(f"unknown precision {precision!r}: expected auto, {', '.join(PRECISIONS)}")
    return PRECISIONS[precision]


def multiplies_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bf16 itself; elsewhere it costs conversions. False if unknown."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and cpu_products.cpu_multiplies_bf16()


def precision_name(dtype: torch.dtype) -> str:
    return next(name for name, value in PRECISIONS.items() if value == dtype)


def inspect_machine(device: torch.device, limit_bytes: int | None = None, reserve_bytes: int = 0) -> Machine:
    """Free and total memory of a device now; `limit_bytes` lowers both.

    `reserve_bytes` are about to be taken by something else, such as weights on their way to the device.
    """
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        name = torch.cuda.get_device_name(device)
    else:
        free, total = _system_memory()
        name = "CPU" if device.type == "cpu" else "Apple GPU"
    free = max(0, free - reserve_bytes)
    if limit_bytes is not None:
        free, total = min(free, limit_bytes), min(total, limit_bytes)
    return Machine(device, name, free, total)


def _system_memory() -> tuple[int, int]:
    page = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page
    free = total
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
    # A container may be allowed less than the machine has.
    with contextlib.suppress(OSError, ValueError):
        limit = int((_CGROUP / "memory.max").read_text())
        used = int((_CGROUP / "memory.current").read_text())
        free, total = min(free, max(0, limit - used)), min(total, limit)
    return free, total


def measure_flops(device: torch.device, dtype: torch.dtype, seconds: float = 0.15) -> float:
    """Floating-point operations per second of a matrix product at the trunk's shapes, measured now."""
    size = 8192 if device.type == "cuda" else 768  # over a millisecond, far above what waiting for it costs
    a = torch.randn(size, size, device=device).to(dtype)
    b = torch.randn(size, size, device=device).to(dtype)
    return 2.0 * size**3 * calls_per_second(device, lambda: a @ b, seconds)


def calls_per_second(device: torch.device, run: Callable[[], object], seconds: float) -> float:
    """How often a device can do `run`, tried for so long after one call that does not count."""
    run()
    synchronise(device)
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds or count < 2:
        run()
        synchronise(device)
        count += 1
    return count / (time.perf_counter() - start)


def synchronise(device: torch.device) -> None:
    """Wait for everything queued on a device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
