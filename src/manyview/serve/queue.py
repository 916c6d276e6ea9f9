"""The queue: jobs in the order in which they came, of which none is lost, whoever is killed.

A page and a server of one process may hand jobs to the same queue.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..batch.pool import Answer, Failure, Work, run_side_by_side
from ..batch.shares import Share
from ..errors import OutputError
from ..files.naming import counted
from ..files.transaction import staging
from ..models.network import Network
from .folder import RESULT_NAME, add_job, drop_job, own_folder, read_jobs, write_job
from .job import Job, JobView, Line, NoSuchJobError, QueueFullError, StoredFile, Submission

_MOST_LINES = 500
_MOST_STARTS = 5  # of a job at which the whole server ends again and again

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class JobTask:
    """A job for a process of the pool, and its folder."""

    job: Job
    folder: Path


@contextlib.contextmanager
def open_queue(
    folder: Path, retries: int = 1, most_waiting: int = 100, told: Callable[[Job], None] | None = None
) -> Iterator[JobQueue]:
    """The queue in `folder`, which is made if it is missing, for this process alone.

    Args:
        folder: A new or empty folder, or that of an earlier queue: what waited there or was under way waits.
        retries: How often a job is begun again whose process died.
        most_waiting: With so many jobs that wait, further ones are refused.
        told: Called with each job that is done or has failed.

    Raises:
        OutputError: The folder holds other things, cannot be written to, or another process has it.
    """
    with own_folder(folder):
        yield JobQueue(folder, retries, most_waiting, told)


class JobQueue:
    """The jobs of a folder; `open_queue` makes it. Every method may be called from any thread."""

    def __init__(
        self, folder: Path, retries: int, most_waiting: int, told: Callable[[Job], None] | None
    ) -> None:
        self.folder, self._retries, self._most_waiting, self._told = folder, retries, most_waiting, told
        self._lock = threading.RLock()
        self._stopping = threading.Event()
        self._at_work: set[str] = set()
        self._jobs = {job.id: job for job in read_jobs(folder)}
        for job in list(self._jobs.values()):
            if job.state == "running" and job.starts >= _MOST_STARTS:
                why = f"the server ended {job.starts} times at this job; use fewer views or smaller images"
                self._changed(job, state="failed", sentence=why, exit_code=1, ended=time.time())
            elif job.state == "running":
                self._changed(job, state="queued")

    def staging(self) -> contextlib.AbstractContextManager[Path]:
        """A new hidden folder for the input of a job, removed unless `submit` takes it."""
        return staging(self.folder)

    def submit(
        self, stage: Path, asked: Submission, options: dict[str, Any], files: Sequence[StoredFile]
    ) -> JobView:
        """Put a job at the end of the queue; it is on the disk when this returns.

        Args:
            stage: What `staging` yielded, with the files in its sub-folder `input`.
            asked: What is said beside the options.
            options: As JSON types.
            files: In the order in which they are fed.

        Raises:
            QueueFullError: Too many jobs wait.
            OutputError: The disk is full.
        """
        with self._lock:
            if len(self._waiting()) >= self._most_waiting:
                raise QueueFullError(
                    f"{counted(self._most_waiting, 'job')} wait already; try again when some are done"
                )
            number = 1 + max((job.number for job in self._jobs.values()), default=0)
            job = Job(
                id=f"{number:06d}-{secrets.token_hex(4)}",
                number=number,
                state="queued",
                asked=asked,
                options=options,
                files=tuple(files),
                submitted=time.time(),
            )
            add_job(self.folder, stage, job)
            self._jobs[job.id] = job
            return self.view(job.id)

    def jobs(self) -> list[JobView]:
        """All jobs, in the order in which they came."""
        with self._lock:
            return [self.view(job.id) for job in sorted(self._jobs.values(), key=lambda job: job.number)]

    def view(self, id: str) -> JobView:
        """A job as it is now. Raises NoSuchJobError."""
        with self._lock:
            job = self._job(id)
            waiting = [one.id for one in self._waiting()]
            return JobView.of(job, waiting.index(id) + 1 if id in waiting else None)

    def result_folder(self, id: str) -> Path:
        """Where the result of a job is that is done. Raises NoSuchJobError for any other."""
        with self._lock:
            job = self._job(id)
        if job.state != "done":
            raise NoSuchJobError(f"job {id} has no result: it is {job.state}; ask again when it is done")
        return self.folder / id / RESULT_NAME

    def remove(self, id: str) -> JobView:
        """Cancel a job, or forget one that has ended; its folder goes, once no process is at it.

        Returns the job as it then is. Raises NoSuchJobError.
        """
        with self._lock:
            job = self._changed(self._job(id), state="cancelled")
            if id not in self._at_work:
                self._drop(id)
            return JobView.of(job, None)

    def run(self, model: Network, work: Work, having: Sequence[Share]) -> None:
        """Do the jobs as they come, in a process for each of `having`, until `stop`.

        `work` makes an `Outcome` of a `JobTask` and tells `heard` what happens meanwhile. However this ends,
        jobs that were under way are begun again by the next queue of the folder. Raises ManyViewError where
        no process can load the model.
        """
        answers = run_side_by_side(
            model, self.tasks(), work, having, self.heard, keep_going=True, cancelled=self.is_cancelled
        )
        with contextlib.closing(answers):
            for answer in answers:
                self.ended(answer)

    def stop(self) -> None:
        """Have `run` return soon, in whatever thread it is."""
        self._stopping.set()

    def tasks(self) -> Iterator[JobTask | None]:
        """Jobs in their order; None while none waits."""
        while not self._stopping.is_set():
            yield self._next()

    def is_cancelled(self, task: JobTask) -> bool:
        """Whether the process that is at a job is to end."""
        return self._stopping.is_set() or self._jobs[task.job.id].state == "cancelled"

    def heard(self, task: JobTask, told: Line | tuple[str, int, int] | str) -> None:
        """What a process tells of its job: a line, (stage, done, total), or what to expect of it."""
        with self._lock:
            job = self._jobs[task.job.id]
            if isinstance(told, Line):
                job = msgspec.structs.replace(job, lines=(*job.lines, told)[:_MOST_LINES])
            elif isinstance(told, str):
                job = msgspec.structs.replace(job, expected=told)
            else:
                stage, done, total = told
                job = msgspec.structs.replace(job, stage=stage, done=done, total=total)
            self._jobs[job.id] = job

    def ended(self, answer: Answer[JobTask]) -> None:
        """Keep what came of a job."""
        found = answer.result
        with self._lock:
            job = self._jobs[answer.task.job.id]
            self._at_work.discard(job.id)
            if job.state == "cancelled":
                self._drop(job.id)
                return
            times = {"ended": time.time(), "seconds": answer.seconds}
            if not isinstance(found, Failure):
                job = self._changed(job, state="done", outcome=found, **times)
            elif self._stopping.is_set() or (found.died and job.deaths < self._retries):
                self._changed(job, state="queued", deaths=job.deaths + found.died, stage="", done=0, total=0)
                return
            else:
                why = {"sentence": found.sentence, "exit_code": found.exit_code}
                job = self._changed(job, state="failed", **why, **times)
        if self._told is not None:
            self._told(job)

    def _next(self) -> JobTask | None:
        with self._lock:
            waiting = self._waiting()
            if not waiting:
                return None
            job = waiting[0]
            begun = {"begun": time.time(), "starts": job.starts + 1, "lines": (), "expected": ""}
            job = self._changed(job, state="running", **begun)
            self._at_work.add(job.id)
        return JobTask(job, self.folder / job.id)

    def _waiting(self) -> list[Job]:
        waiting = [job for job in self._jobs.values() if job.state == "queued"]
        return sorted(waiting, key=lambda job: job.number)

    def _job(self, id: str) -> Job:
        found = self._jobs.get(id)
        if found is None:
            raise NoSuchJobError(f"there is no job {id!r}; it was removed, or belongs to another server")
        return found

    def _changed(self, job: Job, **changes: Any) -> Job:
        job = msgspec.structs.replace(job, **changes)
        self._jobs[job.id] = job
        try:
            write_job(self.folder / job.id, job)
        except OutputError as error:  # what is done is done; after a restart it is found so
            logger.warning("%s", error)
        return job

    def _drop(self, id: str) -> None:
        del self._jobs[id]
        drop_job(self.folder, id)
