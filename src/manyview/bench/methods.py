"""What is timed: a plan on a choice of kernels, or the straightforward twin."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from ..attention.plan import Plan

TWIN = "straightforward"


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of a comparison: a plan, and the `kernels` and `linears` of its run options.

    `twin`: the straightforward implementation, always dense and plain.
    """

    plan: Plan
    kernels: str = "plain"
    twin: bool = False
    linears: str = "plain"

    @property
    def name(self) -> str:
        return method_name(str(self.plan), self.kernels, self.twin, self.linears)


def method_name(plan: str, kernels: str, twin: bool, linears: str) -> str:
    """How tables call a method: the plan's spec, with what is not the default behind it."""
    if twin:
        return TWIN
    special = [name for name in (kernels, linears) if name != "plain"]
    return f"{plan} [{', '.join(special)}]" if special else plan


def methods_of(
    plans: Iterable[Plan], kernels: Sequence[str], linears: Sequence[str], twin: bool
) -> list[Method]:
    """Every plan on all kernels and linears, plan by plan; the twin behind dense attention, or else last."""
    result: list[Method] = []
    for plan in dict.fromkeys(plans):
        result += [Method(plan, kernel, linears=linear) for kernel in kernels for linear in linears]
    if twin:
        depth = len(result[0].plan.layers)
        dense = [index for index, method in enumerate(result) if method.plan == Plan.dense(depth)]
        result.insert(dense[-1] + 1 if dense else len(result), Method(Plan.dense(depth), twin=True))
    return result
