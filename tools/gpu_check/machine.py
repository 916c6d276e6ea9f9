"""What the device is and what runs on it, without touching it in this process."""

from __future__ import annotations

import platform
import subprocess
from typing import Any

import numpy as np
import torch

from manyview.reconstruction.plan.environment import commit


def facts(device: str, tiny: bool) -> dict[str, Any]:
    """Device, versions, commit and the settings of a command, as JSON types."""
    found: dict[str, Any] = {
        "device": device,
        "tiny": tiny,
        "commit": commit(),
        "python": platform.python_version(),
    }
    found |= {"torch": torch.__version__, "numpy": np.__version__, "cuda": torch.version.cuda}
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = None
    if device == "cuda":
        asked = "name,driver_version,memory.total,memory.used,clocks.sm,clocks.mem,power.limit"
        command = ["nvidia-smi", f"--query-gpu={asked}", "--format=csv,noheader"]
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
            found["card"] = told.stdout.strip() or told.stderr.strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            found["card"] = str(error)
    return found
