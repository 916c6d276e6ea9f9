"""Kernels run in Triton's interpreter on the CPU (see tests/conftest.py), as they are on a card."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

import pytest
import torch

from manyview.kernels import use_kernels


@pytest.fixture
def device() -> torch.device:
    """Where kernels run here; skips where Triton is missing."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed: pip install 'manyview[kernels]'")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def triton(device: torch.device) -> Iterator[torch.device]:
    """A test under `use_kernels("triton")` without gradients; gives the device."""
    with use_kernels("triton", device), torch.no_grad():
        yield device
