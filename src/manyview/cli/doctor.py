"""`manyview doctor`: what this machine and this installation can do; paste it into a bug report."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import os
import platform

from .console import say

# extra: the library it brings, and what that is for.
_EXTRAS = {
    "hub": ("huggingface_hub", "weights from the hub"),
    "video": ("av", "video input"),
    "heif": ("pillow-heif", "HEIC and AVIF images"),
    "colmap": ("pycolmap", "COLMAP export"),
    "mesh": ("trimesh", "GLB export"),
    "view": ("viser", "the viewer"),
    "serve": ("fastapi", "the server"),
    "app": ("gradio", "the page in the browser"),
    "plot": ("matplotlib", "plots of training and benchmarks"),
}


@dataclasses.dataclass(frozen=True)
class Doctor:
    """Versions, devices, memory, optional libraries, and a check of the bundled model."""

    def run(self) -> int:
        import torch

        from .._version import __version__
        from ..models.auto import BUNDLED
        from ..models.load import load
        from ..reconstruction.plan.defaults import default_run_options
        from ..reconstruction.plan.environment import attention_kernel, cpu_name
        from ..reconstruction.plan.machine import (
            inspect_machine,
            multiplies_bf16,
            pick_device,
            pick_dtype,
            precision_name,
        )
        from ..reconstruction.plan.preflight import format_gib

        say(f"manyview {__version__}, Python {platform.python_version()}, {platform.platform()}")
        threads = f"{torch.get_num_threads()} threads on {os.cpu_count()} cores"
        say(f"torch {torch.__version__}, {threads}, {cpu_name()}")
        for name in dict.fromkeys(("cpu", str(pick_device("auto")))):
            device = pick_device(name)
            machine, dtype = inspect_machine(device), pick_dtype(device)
            kernel = attention_kernel(device, dtype, 16, 64)
            memory = f"{format_gib(machine.free_bytes)} of {format_gib(machine.total_bytes)} free"
            kernels = default_run_options(device, dtype).kernels
            defaults = f"{precision_name(dtype)} and {kernels} kernels by default, attention by {kernel}"
            bf16 = "has bf16" if multiplies_bf16(device) else "no bf16 of its own"
            say(f"device {name}: {machine.name}, {bf16}, {memory}, {defaults}")
        for extra, (library, purpose) in _EXTRAS.items():
            try:
                state = importlib.metadata.version(library)
            except importlib.metadata.PackageNotFoundError:
                state = f"missing (pip install 'manyview[{extra}]')"
            say(f"{library:<16} {state:<14} {purpose}")
        model = load(BUNDLED)
        parameters = sum(p.numel() for p in model.parameters())
        say(f"bundled model {model.name}: {parameters:,} parameters, weights whole")
        return 0
