"""The one loop of every evaluation: each plan and each reference on each scene."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Protocol

from ...models.network import Network
from .processes import measure_side_by_side
from .records import Evaluation, SceneRows
from .scene import PosedScene


class LoopScene(Protocol):
    """What the loop runs: a scene that counts its rows and measures them."""

    @property
    def rows(self) -> int:
        """How many rows it gives."""
        ...

    def measure(self, model: Network, row_done: Callable[[], None]) -> SceneRows:
        """All rows of the scene; `row_done` is called after each."""
        ...


def run_scenes(
    model: Network,
    scenes: Sequence[LoopScene],
    result: Evaluation,
    progress: Callable[[int, int], None] | None = None,
    on_scene: Callable[[Evaluation], None] | None = None,
    jobs: int = 1,
) -> Evaluation:
    """Measure all scenes into `result`, in their order.

    Args:
        model: The network of all plans.
        scenes: What to run; with `jobs` above 1 posed image sets.
        result: Settings and context, without scenes.
        progress: Called with (rows done, all rows).
        on_scene: Called with what there is after each scene.
        jobs: Scenes at a time, each in a process of its own.

    Raises:
        ManyViewError: Naming the scene, where one fails in another process.
    """
    rows_done, total = 0, sum(scene.rows for scene in scenes)

    def row_done() -> None:
        nonlocal rows_done
        rows_done += 1
        if progress is not None:
            progress(rows_done, total)

    def one_by_one() -> Generator[tuple[int, SceneRows], None, None]:
        for index, scene in enumerate(scenes):
            yield index, scene.measure(model, row_done)

    posed = [scene for scene in scenes if isinstance(scene, PosedScene)]
    side_by_side = jobs > 1 and 1 < len(scenes) == len(posed)
    measured = measure_side_by_side(model, posed, jobs, row_done) if side_by_side else one_by_one()
    done: dict[int, SceneRows] = {}
    with contextlib.closing(measured):
        for index, rows in measured:
            done[index] = rows
            result = dataclasses.replace(result, scenes=tuple(done[i] for i in sorted(done)))
            if on_scene is not None:
                on_scene(result)
    return result
