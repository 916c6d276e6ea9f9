"""The one loop of every evaluation: each plan and each reference on each scene."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol, runtime_checkable

from ...models.network import Network
from .records import Evaluation, SceneRows


@runtime_checkable
class LoopScene(Protocol):
    """What the loop runs: a scene that counts its rows and measures them."""

    @property
    def rows(self) -> int:
        """How many rows it gives."""
        ...

    def measure(self, model: Network, row_done: Callable[[], None]) -> SceneRows:
        """All rows of the scene; `row_done` is called after each."""
        ...


Measured = Generator[tuple[int, SceneRows], None, None]


def one_by_one(model: Network, scenes: Sequence[LoopScene], row_done: Callable[[], None]) -> Measured:
    """(index, rows) of each scene in turn, in this process."""
    for index, scene in enumerate(scenes):
        yield index, scene.measure(model, row_done)


def run_scenes(
    model: Network,
    scenes: Sequence[LoopScene],
    result: Evaluation,
    progress: Callable[[int, int], None] | None = None,
    on_scene: Callable[[Evaluation], object] | None = None,
    measure: Callable[[Network, Any, Callable[[], None]], Measured] = one_by_one,
) -> Evaluation:
    """Measure all scenes into `result`, in their order.

    Args:
        model: The network of all plans.
        scenes: What to run.
        result: Settings and context, without scenes.
        progress: Called with (rows done, all rows).
        on_scene: Called with what there is after each scene.
        measure: Yields (index, rows) as scenes finish, in any order (see `processes`).
    """
    rows_done, total = 0, sum(scene.rows for scene in scenes)

    def row_done() -> None:
        nonlocal rows_done
        rows_done += 1
        if progress is not None:
            progress(rows_done, total)

    done: dict[int, SceneRows] = {}
    with contextlib.closing(measure(model, scenes, row_done)) as measured:
        for index, rows in measured:
            done[index] = rows
            result = dataclasses.replace(result, scenes=tuple(done[i] for i in sorted(done)))
            if on_scene is not None:
                on_scene(result)
    return result
