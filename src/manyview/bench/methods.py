"""What is timed: a plan on a choice of kernels and linear layers, or another implementation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..attention.methods import METHODS
from ..attention.plan import Plan
from ..errors import UsageError
from ..models.network import Network

ALL = "all"


@dataclasses.dataclass(frozen=True)
class Implementation:
    """Another program for dense attention on the same weights, timed beside the plans.

    `build` takes the network and returns what is called in its place, with the same arguments.
    """

    name: str
    build: Callable[[Network], Callable[..., Any]]


@dataclasses.dataclass(frozen=True)
class Method:
    """One row of a comparison: a plan with the `kernels` and `linear_precision` of its run options.

    With `implementation` that runs instead: always dense and plain.
    """

    plan: Plan
    kernels: str = "plain"
    linear_precision: str = "plain"
    implementation: Implementation | None = None

    @property
    def name(self) -> str:
        if self.implementation is not None:
            return self.implementation.name
        return method_name(str(self.plan), self.kernels, self.linear_precision)


def method_name(plan: str, kernels: str, linear_precision: str) -> str:
    """How tables call a method: the plan's spec, with what is not the default behind it."""
    special = [name for name in (kernels, linear_precision) if name != "plain"]
    return f"{plan} [{', '.join(special)}]" if special else plan


def named_plans(specs: Sequence[str]) -> tuple[str, ...]:
    """The specs without repeats, dense first; "all" stands for frame and every preset with its defaults."""
    named = [name for spec in specs for name in (("frame", *METHODS) if spec == ALL else (spec,))]
    return tuple(dict.fromkeys(("dense", *named)))


def plans_beside_dense(specs: Sequence[str], depth: int) -> tuple[list[Plan], dict[str, str]]:
    """The plans of `named_plans`, and why some presets do not go with a network of so many layers.

    Raises UsageError for any other wrong spec.
    """
    plans, refused = [], {}
    for spec in named_plans(specs):
        try:
            plans.append(Plan.parse(spec, depth))
        except UsageError as error:
            if spec not in METHODS:
                raise
            refused[spec] = str(error)
    return plans, refused


def methods_of(
    plans: Iterable[Plan],
    kernels: Sequence[str],
    linear_precisions: Sequence[str],
    implementations: Sequence[Implementation] = (),
) -> list[Method]:
    """Every plan on all kernels and linear precisions, plan by plan; implementations after dense, or last."""
    result: list[Method] = []
    for plan in dict.fromkeys(plans):
        result += [Method(plan, kernel, one) for kernel in kernels for one in linear_precisions]
    full = Plan.dense(len(result[0].plan.layers))
    dense = [index for index, method in enumerate(result) if method.plan == full]
    place = dense[-1] + 1 if dense else len(result)
    result[place:place] = [Method(full, implementation=one) for one in implementations]
    return result
