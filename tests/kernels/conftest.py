"""Kernels run in Triton's interpreter on the CPU (see tests/conftest.py), as they are on a card."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType

import pytest
import torch

from manyview.kernels import launch_device


@pytest.fixture
def device() -> torch.device:
    """Where kernels run here; skips where Triton is missing."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed: pip install 'manyview[kernels]'")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture
def triton(device: torch.device) -> Iterator[torch.device]:
    """Where Triton launches kernels, without gradients."""
    with launch_device("triton", device), torch.no_grad():
        yield device


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, int]]:
    """`calls(module, name, ...)`: from then on, how often these functions of a kernel module are called."""
    counted: dict[str, int] = {}

    def watch(module: ModuleType, *names: str) -> dict[str, int]:
        for name in names:
            function = getattr(module, name)

            def call(*args: object, name: str = name, function=function, **kwargs: object) -> object:
                counted[name] = counted.get(name, 0) + 1
                return function(*args, **kwargs)

            monkeypatch.setattr(module, name, call)
        return counted

    return watch
