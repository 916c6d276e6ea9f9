"""How a global layer's time divides between its linear layers and attention, in a pass of its own.

A network calls the layers of a plan, and these call the attention module: both are wrapped here, so that
networks and methods have no code for it. Marks inside layers make a device without a stream of events wait,
which is why a timed pass has none.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from torch import Tensor

from ..attention.global_attention import GlobalAttention
from ..attention.plan import Plan
from .clock import StageTimer


class SplitTimer(StageTimer):
    """A stage timer that also times stretches inside a stage."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self._stretches: list[tuple[str, Any, Any]] = []

    @contextlib.contextmanager
    def stretch(self, name: str) -> Iterator[None]:
        start = self._stamp()
        yield
        self._stretches.append((name, start, self._stamp()))

    def attention_share(self) -> float | None:
        """Part of the global layers' seconds between projected queries and keys and the output's projection.

        What a method spends on choosing, merging and restoring tokens belongs to it. None without global
        layers. The device must be idle.
        """
        inside = {"attention": 0.0, "projections": 0.0}
        for name, start, stop in self._stretches:
            inside[name] += self._between(start, stop)
        whole = self.seconds().get("global layers", 0.0)
        if whole <= 0 or not self._stretches:
            return None
        return min(1.0, max(0.0, inside["attention"] - inside["projections"]) / whole)


class _TimedParts:
    """`AttentionParts` whose methods are timed as projections."""

    def __init__(self, attention: Any, timer: SplitTimer) -> None:
        self._attention, self._timer = attention, timer

    @property
    def spatial_compressor(self) -> Any:
        return self._attention.spatial_compressor

    def queries(self, *args: Any, **kwargs: Any) -> Tensor:
        with self._timer.stretch("projections"):
            return self._attention.queries(*args, **kwargs)

    def keys_values(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        with self._timer.stretch("projections"):
            return self._attention.keys_values(*args, **kwargs)

    def output(self, *args: Any, **kwargs: Any) -> Tensor:
        with self._timer.stretch("projections"):
            return self._attention.output(*args, **kwargs)


@dataclasses.dataclass(frozen=True)
class _TimedLayer(GlobalAttention):
    timer: Any = None

    def __call__(self, attention: Any, tokens: Tensor, *rest: Any) -> Tensor:
        with self.timer.stretch("attention"):
            return super().__call__(_TimedParts(attention, self.timer), tokens, *rest)


def timed_plan(plan: Plan, timer: SplitTimer) -> Plan:
    """The same plan, with the parts of its layers recorded by the timer."""
    layers = tuple(_TimedLayer(layer.queries, layer.keys, layer.fill, timer) for layer in plan.layers)
    return dataclasses.replace(plan, layers=layers)
