"""Index tensors that are made once and kept for later calls."""

from __future__ import annotations

import contextlib

import torch


def for_later_calls() -> contextlib.ExitStack:
    """Tensors made inside live on the CPU and serve gradients, wherever the first caller runs."""
    stack = contextlib.ExitStack()
    stack.enter_context(torch.inference_mode(False))
    stack.enter_context(torch.device("cpu"))
    return stack
