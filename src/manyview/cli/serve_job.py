"""A job of `manyview serve`, in a process of its pool: `reconstruct` with a model that is loaded."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal

from ..batch.shares import Share
from ..errors import ManyViewError
from ..files.paths import resolve_inside
from ..serve.folder import INPUT_NAME, JOB_NAME, RESULT_NAME
from ..serve.job import Line, Outcome, Quality
from ..serve.queue import JobTask
from .batch_scene import LoadedSingleView, reconstruct_scene
from .console import Bars
from .job_options import job_command
from .options import ModelChoice
from .reconstruct import Reconstruct, Request, lacking

if TYPE_CHECKING:
    from ..models.network import Network
    from ..reconstruction.inputs.options import InputOptions, InputSet
    from ..reconstruction.result.result import Reconstruction
    from ..reconstruction.run.prepare import PreparedRun

_EVERY_S = 0.2  # shortest time between two reports of progress in one stage
Tell = Callable[[Any], None]


@dataclasses.dataclass
class ReconstructJob:
    """What a process of the pool does with a job; `model` says how the server's weights were chosen."""

    model: ModelChoice
    single_view: LoadedSingleView | None = None

    def __call__(self, model: Network, task: JobTask, share: Share, tell: Tell) -> Outcome:
        folders = (str(task.folder / INPUT_NAME), str(task.folder / RESULT_NAME))
        try:
            with _told(task, tell) as told:
                command = job_command(
                    task.job.options, JobCommand, paths=folders, task=task, tell=told, result=_Compared()
                )
                command = dataclasses.replace(command, model=self.model)
                network = None if self.single_view is None else self.single_view.network
                self.single_view = LoadedSingleView.of(command, network)
                command = dataclasses.replace(command, single_view=self.single_view)
                try:
                    scene, peak = reconstruct_scene(command, model, share, _Telling(told))
                except _NothingToDo:
                    return Outcome(command.result.compared)
        except ManyViewError as error:
            error.args = (_without_folder(str(error), task),)
            raise
        quality = None if scene.quality is None else Quality(**scene.quality)
        return Outcome(command.result.compared, len(scene), peak, scene.settings_hash, quality)


class _NothingToDo(Exception):
    """The client has the result, or another one, which it names."""


@dataclasses.dataclass
class _Compared:
    """What was found of the result that the client has."""

    compared: Literal["new", "more", "same", "other"] = "new"


@dataclasses.dataclass(frozen=True, kw_only=True)
class JobCommand(Reconstruct):
    """`reconstruct` of the files of a job."""

    task: JobTask
    tell: Tell
    result: _Compared

    def found(self, options: InputOptions) -> InputSet:
        from ..reconstruction.inputs.find import input_set
        from ..reconstruction.inputs.options import InputFile

        job, folder = self.task.job, self.task.folder
        files = [
            InputFile(resolve_inside(folder / INPUT_NAME, file.path, folder / JOB_NAME), file.name)
            for file in job.files
        ]
        return input_set(job.asked.name, files, options, job.asked.notes)

    def earlier_result(
        self, request: Request, ready: PreparedRun, earlier: dict[str, Any] | None
    ) -> Reconstruction | None:
        self.tell((ready.shared or ready.chosen).sentence())
        theirs = self.task.job.asked.earlier
        if theirs is not None:
            lacks = lacking(request, ready, theirs)
            self.result.compared = "same" if lacks == "nothing" else "other" if lacks == "other" else "more"
            if self.result.compared != "more":
                raise _NothingToDo
        return super().earlier_result(request, ready, earlier)

    def say_end(self, scene: Reconstruction, device: str) -> None:
        """The client prints it."""


class _Telling(Bars):
    """Reports progress to the server in place of showing bars."""

    def __init__(self, tell: Tell) -> None:
        super().__init__()
        self._tell, self._last, self._stage = tell, 0.0, ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self._stage or done >= total or now - self._last > _EVERY_S:
            self._stage, self._last = stage, now
            self._tell((stage, done, total))


@contextlib.contextmanager
def _told(task: JobTask, tell: Tell) -> Iterator[Tell]:
    """Reports each line that is printed or logged to the server, without the path of the job's folder."""

    def line(kind: Literal["said", "logged"]) -> Callable[[str], None]:
        return lambda text: tell(Line(kind, _without_folder(text, task)))

    logger, handler = logging.getLogger("manyview"), _Handler(line("logged"))
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with contextlib.redirect_stdout(_Lines(line("said"))), contextlib.redirect_stderr(io.StringIO()):
            yield tell
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Lines(io.TextIOBase):
    """A stream that hands on whole lines."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take, self._text = take, ""

    def write(self, text: str) -> int:
        *lines, self._text = (self._text + text).split("\n")
        for line in lines:
            self._take(line)
        return len(text)


class _Handler(logging.Handler):
    def __init__(self, take: Callable[[str], None]) -> None:
        super().__init__()
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record.getMessage())


def _without_folder(text: str, task: JobTask) -> str:
    for folder in (task.folder / INPUT_NAME, task.folder):
        text = text.replace(os.fspath(folder) + os.sep, "")
    return text
