"""The rates of the machine are not what most tests here are about, and take a second each time."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def known_rates() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("manyview.bench.set_up.measure_flops", lambda *_, **__: 1e11)
        patch.setattr("manyview.bench.set_up.measure_copy", lambda *_, **__: 1e10)
        patch.setattr("manyview.bench.set_up.machine_load", lambda *_, **__: {"busy_cores": 0.0})
        gc.freeze()  # each case collects garbage: not through every object of PyTorch and of the tests
        yield
        gc.unfreeze()
