"""Seconds of a piece of work on a device, and what it comes to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

_WARMUP, _LEAST, _MOST = 2, 3, 50


def median_seconds(device: torch.device, run: Callable[[], object], budget: float = 0.3) -> float:
    """Median of single calls, after two that do not count: events on CUDA, else the host's clock."""
    for _ in range(_WARMUP):
        run()
    found: list[float] = []
    started = time.perf_counter()
    while len(found) < _LEAST or (len(found) < _MOST and time.perf_counter() - started < budget):
        found.append(_once(device, run))
    return statistics.median(found)


def _once(device: torch.device, run: Callable[[], object]) -> float:
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    first.record()
    run()
    last.record()
    last.synchronize()
    return first.elapsed_time(last) / 1e3


def row(
    device: torch.device,
    name: str,
    run: Callable[[], object],
    flops: float = 0.0,
    moved: float = 0.0,
    **more: Any,
) -> dict[str, Any]:
    """Figures of one piece of work; `moved`: bytes read and written. An error is its figure."""
    result: dict[str, Any] = {"name": name, **more}
    try:
        seconds = median_seconds(device, run)
    except Exception as error:  # of any kind: the next row is another kernel
        return {**result, "error": f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"}
    result["seconds"] = seconds
    if flops:
        result |= {"flops": flops, "flops_per_s": flops / seconds}
    if moved:
        result |= {"bytes": moved, "bytes_per_s": moved / seconds}
    return result


def line(row: dict[str, Any]) -> str:
    """A row for a person."""
    if "error" in row:
        return f"{row['name']:56} {row['error']}"
    text = f"{row['name']:56} {1e3 * row['seconds']:10.4g} ms"
    if "flops_per_s" in row:
        text += f" {row['flops_per_s'] / 1e12:8.4g} TFLOP/s"
    if "bytes_per_s" in row:
        text += f" {row['bytes_per_s'] / 1e12:8.4g} TB/s"
    return text
