"""Fixtures shared by all tests. Data beside the checkout is used when it is there, never required."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

# Tests run side by side; threads that spin against each other are many times slower than one.
torch.set_num_threads(1)

_SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real photos and videos, or skip."""
    folder = _SHARED / "data"
    if not folder.is_dir():
        pytest.skip("the real photos and videos are not beside this checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Folder of golden inputs and outputs of the reference implementations, or skip."""
    folder = _SHARED / "reference"
    if not folder.is_dir():
        pytest.skip("the golden tensors are not beside this checkout (../shared/reference)")
    return folder


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
