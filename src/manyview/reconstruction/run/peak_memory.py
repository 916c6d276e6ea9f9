"""Peak memory of a pass, as far as the machine reports it."""

from __future__ import annotations

import sys

import torch


def start_counting(device: torch.device) -> int:
    """Bytes that the card holds before the pass: weights, and what else the program keeps there."""
    if device.type != "cuda":
        return 0
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_allocated(device)


def measured_bytes(device: torch.device, held: int) -> dict[str, int]:
    """CUDA: the pass's own peak, beside the weights, as expected; else only the whole process's is known."""
    if device.type == "cuda":
        return {"measured peak": torch.cuda.max_memory_allocated(device) - held}
    try:
        import resource
    except ImportError:  # not on Windows
        return {}
    unit = 1 if sys.platform == "darwin" else 1024
    return {"peak of the whole process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
