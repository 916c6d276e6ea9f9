"""Fixtures shared by all tests. Data beside the checkout is used when it is there, never required."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tools.kernels.interpreter import mend_interpreter

from . import check_all_again, wrong_types_allowed

# Before anything imports Triton, whose own functions are made for the interpreter or for a card by then.
if not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"
    mend_interpreter()

# Before anything imports the hub's library: no test downloads, and `auto` is the bundled model.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HOME"] = os.path.join(tempfile.gettempdir(), "manyview-tests-no-hub")

# Tests run side by side; threads that spin against each other are many times slower than one.
torch.set_num_threads(1)

_raises = pytest.raises


@contextlib.contextmanager
def _unchecked_raises(*args: Any, **kwargs: Any) -> Iterator[pytest.ExceptionInfo[BaseException]]:
    """`pytest.raises`, inside which types are not checked: what is handed over there is meant to be wrong."""
    with wrong_types_allowed(), _raises(*args, **kwargs) as caught:
        yield caught


pytest.raises = _unchecked_raises


@pytest.fixture(autouse=True)
def _types_checked() -> None:
    check_all_again()


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


@pytest.fixture
def photos(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Folder of images 0.png, 1.png, ...: four of 64x48 pixels, or what the marker `photos` says."""
    marker = request.node.get_closest_marker("photos")
    count, width, height = marker.args if marker else (4, 64, 48)
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for index in range(count):
        small = Image.fromarray(generator.integers(0, 255, (6, 8, 3), dtype=np.uint8))
        small.resize((width, height)).save(folder / f"{index}.png")
    return folder


@pytest.fixture
def unchecked() -> Iterator[None]:
    """Calls go unchecked: for tests that count what thousands of calls do."""
    with wrong_types_allowed():
        yield


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _cpu_without_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests mean the same on every CPU: runs choose float32, unless a test says what the CPU multiplies."""
    monkeypatch.setattr("manyview.attention.softmax.bf16_cpu.cpu_multiplies_bf16", lambda: False)


@functools.cache
def _flops_per_s(device: torch.device, dtype: torch.dtype) -> float:
    from manyview.reconstruction.plan.machine import measure_flops

    return measure_flops(device, dtype)


@pytest.fixture(autouse=True)
def _speed_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fast the machine is: 0.15 s, which every reconstruction would take anew."""
    for user in ("prepare", "engine"):
        monkeypatch.setattr(f"manyview.reconstruction.run.{user}.measure_flops", _flops_per_s)
