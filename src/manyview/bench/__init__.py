"""Speed and memory of forward passes against the number of frames."""

from __future__ import annotations

from .measure import BenchReport, Measurement, Refusal, run_bench
from .options import BenchOptions

__all__ = ["BenchOptions", "BenchReport", "Measurement", "Refusal", "run_bench"]
