"""What every measure has."""

from __future__ import annotations

from typing import Any, ClassVar, Protocol, runtime_checkable

from ..scene_pair import Needs, ScenePair

Figures = dict[str, float | None]


@runtime_checkable
class Measure(Protocol):
    """A frozen dataclass; its fields are all that decides its figures."""

    __dataclass_fields__: ClassVar[dict[str, Any]]
    needs: ClassVar[Needs]
    """What a pair must hold."""

    def figures(self, pair: ScenePair, workers: int) -> Figures:
        """Figures by name; `workers` threads search neighbours (-1: all cores)."""
        ...
