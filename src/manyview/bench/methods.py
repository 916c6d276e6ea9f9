"""What is timed: a plan on a choice of kernels, or the straightforward twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from ..attention.plan import Plan

TWIN = "straightforward"


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of a comparison. `twin`: the straightforward implementation, always dense and plain."""

    plan: Plan
    kernels: str = "plain"
    twin: bool = False

    @property
    def name(self) -> str:
        return method_name(str(self.plan), self.kernels, self.twin)


def method_name(plan: str, kernels: str, twin: bool) -> str:
    """How tables call a method: the plan's spec, with what is not the default behind it."""
    if twin:
        return TWIN
    return plan if kernels == "plain" else f"{plan} [{kernels}]"


def methods_of(plans: Iterable[Plan], kernels: Iterable[str], twin: bool) -> list[Method]:
    """Every plan on all kernels, plan by plan; the twin behind dense attention, or else last."""
    result: list[Method] = []
    for plan in dict.fromkeys(plans):
        result += [Method(plan, name) for name in kernels]
    if twin:
        depth = len(result[0].plan.layers)
        dense = [index for index, method in enumerate(result) if method.plan == Plan.dense(depth)]
        result.insert(dense[-1] + 1 if dense else len(result), Method(Plan.dense(depth), twin=True))
    return result
