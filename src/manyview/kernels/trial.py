"""Whether Triton can compile a kernel here: it needs a C compiler and Python's headers on the machine."""

from __future__ import annotations

import functools

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily


@functools.lru_cache(maxsize=8)
def compile_problem(device: torch.device) -> str | None:
    """Why the smallest of the kernels cannot be compiled or launched on a CUDA device; None if it runs.

    Found out once for each device: a second or two where nothing is in Triton's cache.
    """
    from .row_norm import layer_norm

    try:
        with unset_fake_temporarily(), torch.cuda.device(device), torch.inference_mode():
            found = layer_norm(torch.tensor([[1.0, -1.0] * 8], device=device), None, None, 1e-6)
            return None if bool(found.isfinite().all()) else "a kernel gave numbers that are not finite"
    except Exception as error:  # of the compiler, the linker, the driver: anything but a run
        return " ".join(str(error).split()) or type(error).__name__
