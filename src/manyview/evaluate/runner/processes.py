"""Scenes measured side by side, in processes with a model each."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import tempfile
import threading
import traceback
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from ...errors import ManyViewError
from ...models.network import Network
from ...reconstruction.plan.machine import inspect_machine, pick_device
from ...reconstruction.run.prepare import weights_elsewhere
from .records import SceneRows
from .scene import PosedScene, Recipe


def measure_side_by_side(
    model: Network,
    scenes: Sequence[PosedScene],
    row_done: Callable[[], None],
    jobs: int,
) -> Generator[tuple[int, SceneRows], None, None]:
    """(index in `scenes`, its rows) as they finish.

    Cores, and on one device memory, are shared out; "cuda" spreads the processes over all cards of the first
    one's kind. After a failure no scene is begun, those that run are finished and yielded, and then a
    ManyViewError naming the scene is raised. Closing the iterator ends the processes.
    """
    jobs = max(1, min(jobs, len(scenes)))
    recipes = _shares(model, scenes[0].how, jobs)
    context = multiprocessing.get_context("spawn")
    waiting = list(enumerate(scenes))[::-1]
    running: dict[Connection, tuple[BaseProcess, int]] = {}
    started: list[BaseProcess] = []
    failure: ManyViewError | None = None

    def hand_out(connection: Connection, process: BaseProcess) -> None:
        running.pop(connection, None)
        if waiting and failure is None:
            place, scene = waiting.pop()
            running[connection] = process, place
            # A process that has died meanwhile is noticed when its connection is read.
            with contextlib.suppress(BrokenPipeError):
                connection.send(scene)
        else:
            connection.close()

    # The weights are in memory once, whatever the number of processes: they map one file.
    with tempfile.TemporaryDirectory(prefix="manyview-", ignore_cleanup_errors=True) as folder:
        weights = Path(folder) / "model.pt"
        torch.save(model, weights)
        threads = max(1, torch.get_num_threads() // jobs)
        try:
            for recipe in recipes:
                ours, theirs = context.Pipe()
                process: BaseProcess = context.Process(
                    target=_serve, args=(theirs, weights, recipe, threads), daemon=True
                )
                with _ignoring_ctrl_c():
                    process.start()
                theirs.close()
                started.append(process)
                hand_out(ours, process)
            while running:
                for connection in wait(list(running)):
                    assert isinstance(connection, Connection)
                    process, place = running[connection]
                    try:
                        kind, value = connection.recv()
                    except (EOFError, ConnectionResetError):
                        process.join()
                        kind, value = "failed", (_death(process, jobs), 1, "")
                        connection.close()
                        running.pop(connection)
                    if kind == "row":
                        row_done()
                    elif kind == "done":
                        hand_out(connection, process)
                        yield place, value
                    else:
                        failure = failure or _failure(scenes[place].name, *value)
                        if not connection.closed:
                            hand_out(connection, process)
        finally:
            for process in started:
                if running:
                    process.terminate()
                process.join()
    if failure is not None:
        raise failure


def _serve(connection: Connection, weights: Path, how: Recipe, threads: int) -> None:
    """Measure what comes until nothing does; ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    model = torch.load(weights, map_location="cpu", mmap=True, weights_only=False)
    warm = how.options.device.startswith("cuda")
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            scene = dataclasses.replace(connection.recv(), how=how, warm=warm)
            try:
                rows = scene.measure(model, lambda: connection.send(("row", None)))
            except (EOFError, BrokenPipeError, ConnectionResetError):
                raise
            except ManyViewError as error:
                connection.send(("failed", (str(error), error.exit_code, traceback.format_exc())))
            except Exception as error:
                message = f"unexpected {type(error).__name__}: {error}"
                connection.send(("failed", (message, 1, traceback.format_exc())))
            else:
                connection.send(("done", rows))
                warm = False


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


def _shares(model: Network, how: Recipe, jobs: int) -> list[Recipe]:
    """The recipe of each process: its device, its share of the device's memory and of the cores."""
    device = pick_device(how.options.device)
    places = [str(device)]
    if device.type == "cuda" and device.index is None:
        kind = torch.cuda.get_device_name(0)
        count = torch.cuda.device_count()
        places = [f"cuda:{i}" for i in range(count) if torch.cuda.get_device_name(i) == kind]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = how.workers if how.workers > 0 else max(1, cores // jobs)
    recipes = []
    for index in range(jobs):
        place = places[index % len(places)]
        sharing = len(range(index % len(places), jobs, len(places)))
        options = dataclasses.replace(how.options, device=place)
        if sharing > 1:
            limit = how.options.memory_limit_gib
            there = torch.device(place)
            machine = inspect_machine(
                there,
                None if limit is None else int(limit * 2**30),
                reserve_bytes=sharing * weights_elsewhere(model, there),
            )
            options = dataclasses.replace(options, memory_limit_gib=machine.free_bytes / sharing / 2**30)
        recipes.append(dataclasses.replace(how, options=options, workers=workers, together=jobs))
    return recipes


def _death(process: BaseProcess, jobs: int) -> str:
    return (
        f"its process ended without a result (exit code {process.exitcode}); -9 is mostly the system "
        f"that ran out of memory: use fewer than {jobs} --jobs"
    )


def _failure(scene: str, message: str, status: int, trace: str) -> ManyViewError:
    error = ManyViewError(f"scene {scene}: {message} (results of other scenes are kept)")
    error.exit_code = status
    if trace:
        error.__cause__ = RuntimeError(trace)
    return error
