"""Comparing an output with the stored one: |actual - expected| <= atol + rtol |expected| everywhere."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor


@dataclasses.dataclass(frozen=True)
class FieldResult:
    """How one output fared, at the element that comes closest to its limit or passes it furthest.

    `ratio` is `error` / `tolerance`: at most 1 for a pass, infinite where nothing may differ but does, or
    where shapes differ or a number is not finite. `problem` says what is wrong beyond the numbers.
    """

    name: str
    error: float
    tolerance: float
    ratio: float
    problem: str | None = None

    @property
    def passed(self) -> bool:
        return self.problem is None and self.ratio <= 1.0


def compare_field(name: str, actual: Tensor, expected: Tensor, spec: dict[str, Any]) -> FieldResult:
    """Compare in float64; integer and boolean outputs must be equal."""
    actual = actual.detach().cpu()
    if tuple(actual.shape) != tuple(expected.shape):
        shapes = f"shape {list(actual.shape)}, expected {list(expected.shape)}"
        return FieldResult(name, math.inf, 0.0, math.inf, shapes)
    if not expected.is_floating_point():
        different = int((actual.to(expected.dtype) != expected).sum())
        problem = f"{different} of {expected.numel()} values differ" if different else None
        return FieldResult(name, float(different), 0.0, math.inf if different else 0.0, problem)
    want = expected.double()
    error = (actual.double() - want).abs()
    if not bool(torch.isfinite(error).all()):
        return FieldResult(name, math.nan, 0.0, math.inf, "values are not finite")
    limit = float(spec["atol"]) + float(spec["rtol"]) * want.abs()
    ratio = torch.where(error == 0, 0.0, error / limit)  # 0 / 0 where a limit is zero
    if ratio.numel() == 0:
        return FieldResult(name, 0.0, 0.0, 0.0)
    worst = int(ratio.argmax())
    return FieldResult(
        name, float(error.flatten()[worst]), float(limit.flatten()[worst]), float(ratio.flatten()[worst])
    )
