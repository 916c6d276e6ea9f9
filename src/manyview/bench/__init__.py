"""Speed and memory of forward passes against the number of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .options import BenchOptions

if TYPE_CHECKING:
    from .measure import BenchReport, Measurement, Refusal, run_bench

__all__ = ["BenchOptions", "BenchReport", "Measurement", "Refusal", "run_bench"]


def __getattr__(name: str) -> Any:
    # On first use, so that the help of the command line does not wait for PyTorch.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from . import measure

    return getattr(measure, name)
