"""Processes with a model each, side by side: who asks hands out tasks and gets answers as they come."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

from ..errors import ManyViewError
from ..models.network import Network
from ..reconstruction.plan.allocator import bound_caches
from .shares import Share

T = TypeVar("T")
_AGAIN_S = 0.5  # after which the tasks are asked again whether there is one
_MOST_STARTS = 3  # processes in a row that end before they have loaded the model


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why there is no result: a sentence, the exit code of the error, its traceback if there is one.

    `died`: the process ended by itself, so that another one may succeed.
    """

    sentence: str
    exit_code: int = 1
    trace: str = ""
    died: bool = False


@dataclasses.dataclass(frozen=True)
class Answer(Generic[T]):
    """The result of a task, or why there is none, and the seconds since it was handed out."""

    task: T
    result: Any
    seconds: float


Work = Callable[[Network, Any, Share, Callable[[Any], None]], Any]
"""(model, task, share, tell) -> result, in a process of the pool; what it tells is heard by `heard`."""


def run_side_by_side(
    model: Network,
    tasks: Iterable[T | None],
    work: Work,
    having: Sequence[Share],
    heard: Callable[[T, Any], None] | None = None,
    keep_going: bool = False,
    cancelled: Callable[[T], bool] | None = None,
) -> Generator[Answer[T], None, None]:
    """Answers as tasks finish, in processes that have loaded the model once.

    Args:
        model: The network; its weights are in memory once, whatever the number of processes.
        tasks: What to do, asked for when a process is free; None: nothing now, ask again.
        work: What to do with it, a function or an object that can be pickled.
        having: The share of each process.
        heard: Called with (task, what `work` told).
        keep_going: After a failure go on, with a new process in place of one that died or that met an
            unexpected error. Else no further task is begun after one.
        cancelled: Asked a few times a second of each task that is under way: True ends its process, which
            answers with a `Failure`. The next task is one for a new process, which has to load the model.

    Raises:
        ManyViewError: Processes end before they have loaded the model.

    Closing the iterator ends the processes.
    """
    with tempfile.TemporaryDirectory(prefix="manyview-", ignore_cleanup_errors=True) as folder:
        loads = _Loads(Path(folder) / "model.pt", model, work)
        with contextlib.closing(_Pool(loads, iter(tasks), having, keep_going, cancelled)) as pool:
            while pool.has_work():
                for task, seconds, kind, value in pool.messages():
                    if kind != "told":
                        yield Answer(task, value, seconds)
                    elif heard is not None:
                        heard(task, value)


@dataclasses.dataclass(frozen=True)
class _Loads:
    """What processes load, from a file that is written for the first of them."""

    path: Path
    model: Network
    work: Work

    def written(self) -> Path:
        if not self.path.exists():
            torch.save((self.model, self.work), self.path)
        return self.path


@dataclasses.dataclass
class _Worker(Generic[T]):
    process: BaseProcess
    connection: Connection
    share: Share
    task: T | None = None
    since: float = 0.0
    loaded: bool = False


class _Pool(Generic[T]):
    def __init__(
        self,
        loads: _Loads,
        tasks: Iterator[T | None],
        having: Sequence[Share],
        keep_going: bool,
        cancelled: Callable[[T], bool] | None,
    ) -> None:
        self._loads, self._tasks, self._keep_going = loads, tasks, keep_going
        self._cancelled = cancelled
        self._context = multiprocessing.get_context("spawn")
        self._started: list[_Worker[T]] = []
        self._working: dict[Connection, _Worker[T]] = {}
        self._idle: list[_Worker[T]] = []
        self._vacant = list(having)[::-1]
        self._over = False
        self._early_deaths = 0

    def has_work(self) -> bool:
        """Hand out what there is; False when all is done."""
        for worker in [one for one in self._idle if not one.process.is_alive()]:
            self._idle.remove(worker)
            self._dismiss(worker)
        while not self._over and (self._idle or self._vacant):
            try:
                task = next(self._tasks)
            except StopIteration:
                self._over = True
                break
            if task is None:
                break
            worker = self._idle.pop() if self._idle else self._start(self._vacant.pop())
            worker.task, worker.since = task, time.monotonic()
            self._working[worker.connection] = worker
            # A process that has died meanwhile is noticed when its connection is read.
            with contextlib.suppress(BrokenPipeError):
                worker.connection.send(task)
        if self._over:
            while self._idle:
                self._idle.pop().connection.close()
        return bool(self._working) or not self._over

    def messages(self) -> Iterator[tuple[T, float, str, Any]]:
        """(task, seconds, kind, value) of what comes; nothing if nothing comes for a while."""
        asking = self._cancelled is not None or (not self._over and bool(self._idle or self._vacant))
        if not self._working:
            time.sleep(_AGAIN_S)
            return
        yield from self._ended()
        for connection in wait(list(self._working), _AGAIN_S if asking else None):
            assert isinstance(connection, Connection)
            worker = self._working[connection]
            assert worker.task is not None
            try:
                kind, value = connection.recv()
            except (EOFError, ConnectionResetError):
                kind, value = "died", None
            if kind == "ready":
                self._early_deaths, worker.loaded = 0, True
                worker.since = time.monotonic()  # loading the model is no part of the task
                continue
            if kind != "told":
                del self._working[connection]
            seconds = time.monotonic() - worker.since
            if kind == "done":
                self._idle.append(worker)
            elif kind != "told":
                if kind == "died":
                    worker.process.join()
                    value = Failure(_death(worker.process, worker.share.jobs), died=True)
                    self._early_deaths += not worker.loaded
                self._after_failure(worker, kind)
            yield worker.task, seconds, kind, value
            if self._early_deaths >= _MOST_STARTS:
                raise ManyViewError(
                    f"no process could load the model: {_death(worker.process, worker.share.jobs)}"
                )

    def _ended(self) -> Iterator[tuple[T, float, str, Any]]:
        """What `messages` gives of tasks that are cancelled, when their processes have ended."""
        for connection, worker in list(self._working.items()):
            assert worker.task is not None
            if self._cancelled is not None and self._cancelled(worker.task):
                worker.process.kill()
                worker.process.join()
                del self._working[connection]
                self._dismiss(worker)
                yield worker.task, time.monotonic() - worker.since, "failed", Failure("it was cancelled")

    def _after_failure(self, worker: _Worker[T], kind: str) -> None:
        self._over = self._over or not self._keep_going
        if kind == "failed":
            self._idle.append(worker)
            return
        self._dismiss(worker)

    def _dismiss(self, worker: _Worker[T]) -> None:
        """Have a new process in place of one that has ended."""
        self._started.remove(worker)
        worker.connection.close()
        self._vacant.append(worker.share)

    def close(self) -> None:
        """End all processes."""
        for worker in self._started:
            if self._working:
                worker.process.terminate()
            elif not worker.connection.closed:
                worker.connection.close()
            worker.process.join()

    def _start(self, share: Share) -> _Worker[T]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._loads.written(), share, self._keep_going), daemon=True
        )
        with _ignoring_ctrl_c():
            process.start()
        theirs.close()
        worker: _Worker[T] = _Worker(process, ours, share)
        self._started.append(worker)
        return worker


def _serve(connection: Connection, weights: Path, share: Share, keep_going: bool) -> None:
    """Do what comes until nothing does; ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, args=(weights,), daemon=True).start()
    bound_caches()  # as the command that started it
    torch.set_num_threads(share.threads)
    model, work = torch.load(weights, map_location="cpu", mmap=True, weights_only=False)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send(("ready", None))
        while True:
            task = connection.recv()
            try:
                result = work(model, task, share, lambda value: connection.send(("told", value)))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except ManyViewError as error:
                connection.send(("failed", Failure(str(error), error.exit_code, traceback.format_exc())))
            except Exception as error:
                message = f"unexpected {type(error).__name__}: {error}"
                failure = Failure(message, 1, traceback.format_exc())
                # What is left in the memory of a card, or of this process, after that is not known.
                connection.send(("broken" if keep_going else "failed", failure))
                if keep_going:
                    return
            else:
                connection.send(("done", result))


def _end_with_parent(weights: Path) -> None:
    """What a parent that was killed could not remove goes too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        shutil.rmtree(weights.parent, ignore_errors=True)
        os._exit(1)


@contextlib.contextmanager
def _ignoring_ctrl_c() -> Iterator[None]:
    """Processes started here inherit it: Ctrl-C in a terminal reaches all, the parent alone handles it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _death(process: BaseProcess, jobs: int) -> str:
    remedy = f"use fewer than {jobs} --jobs" if jobs > 1 else "use a smaller --image-size or fewer views"
    return (
        f"its process ended without a result (exit code {process.exitcode}); -9 is mostly the system "
        f"that ran out of memory: {remedy}"
    )
