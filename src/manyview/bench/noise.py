"""Whether figures can be trusted: other programs on the machine, and repeats that differ too much."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

_BUSY_CORES = 0.3
_STAT = Path("/proc/stat")


def machine_load(device: torch.device, seconds: float = 0.3) -> dict[str, Any]:
    """What else ran when the benchmark started, as JSON types; call while this program is idle.

    `average` is the system's over 1, 5 and 15 minutes; `busy_cores` those at work meanwhile (None
    where the system has no figure); `device_bytes` what others hold of a CUDA card's memory.
    """
    result: dict[str, Any] = {"average": None, "busy_cores": None}
    if hasattr(os, "getloadavg"):
        result["average"] = [round(value, 2) for value in os.getloadavg()]
    before = _busy_ticks()
    time.sleep(seconds)
    after = _busy_ticks()
    if before is not None and after is not None:
        result["busy_cores"] = round((after - before) / os.sysconf("SC_CLK_TCK") / seconds, 2)
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        result["device_bytes"] = max(0, total - free - torch.cuda.memory_reserved(device))
    return result


def load_warning(load: dict[str, Any] | None) -> str | None:
    """A sentence if something else was running, else None."""
    if not load:
        return None
    busy, average = load.get("busy_cores"), load.get("average")
    if busy is None:  # the average also remembers what ended a minute ago
        busy = average[0] if average else 0.0
    if busy <= _BUSY_CORES:
        return None
    cores = os.cpu_count() or 1
    busy_with = f"{busy:.1f} of {cores} cores were busy with something else at the start"
    return f"warning: {busy_with}; times may be too long"


def spread(seconds: Sequence[float]) -> float:
    """Longest minus shortest, as a share of the median."""
    return (max(seconds) - min(seconds)) / statistics.median(seconds)


def _busy_ticks() -> int | None:
    """Ticks that all cores spent neither idle nor waiting for a disk."""
    try:
        fields = [int(value) for value in _STAT.read_text().split("\n", 1)[0].split()[1:9]]
    except (OSError, ValueError):
        return None
    return sum(fields) - fields[3] - fields[4]
