"""Scenes measured side by side, in processes with a model each."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence

from ...batch.pool import Failure, run_side_by_side
from ...batch.shares import Share, shares
from ...errors import ManyViewError
from ...models.network import Network
from .records import SceneRows
from .scene import PosedScene, Recipe


def measure_side_by_side(
    model: Network,
    scenes: Sequence[PosedScene],
    row_done: Callable[[], None],
    jobs: int,
) -> Generator[tuple[int, SceneRows], None, None]:
    """(index in `scenes`, its rows) as they finish, in the processes of `batch.pool`.

    After a failure no scene is begun, those that run are finished and yielded, and then a ManyViewError
    naming the scene is raised. Closing the iterator ends the processes.
    """
    how = scenes[0].how
    having = shares(model, how.options, max(1, min(jobs, len(scenes))))
    failure: ManyViewError | None = None
    answers = run_side_by_side(
        model, enumerate(scenes), Measuring(how), having, lambda task, told: row_done()
    )
    with contextlib.closing(answers):
        for answer in answers:
            place, scene = answer.task
            if isinstance(answer.result, Failure):
                failure = failure or _error(scene.name, answer.result)
            else:
                yield place, answer.result
    if failure is not None:
        raise failure


@dataclasses.dataclass
class Measuring:
    """What a process does with (index, scene); on CUDA its first pass compiles, and is not measured."""

    how: Recipe
    first: bool = True

    def __call__(
        self, model: Network, task: tuple[int, PosedScene], share: Share, tell: Callable[[None], None]
    ) -> SceneRows:
        workers = self.how.workers if self.how.workers > 0 else share.cores
        options = share.onto(self.how.options)
        how = dataclasses.replace(self.how, options=options, workers=workers, together=share.jobs)
        warm = self.first and share.device.startswith("cuda")
        rows = dataclasses.replace(task[1], how=how, warm=warm).measure(model, lambda: tell(None))
        self.first = False
        return rows


def _error(scene: str, failure: Failure) -> ManyViewError:
    error = ManyViewError(f"scene {scene}: {failure.sentence} (results of other scenes are kept)")
    error.exit_code = failure.exit_code
    if failure.trace:
        error.__cause__ = RuntimeError(failure.trace)
    return error
