"""Cases in processes of their own, within a time limit: a crash, a hang or an error ends a case."""

from __future__ import annotations

import ctypes
import dataclasses
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from tools.gpu_check.results import Results
from tools.kernels.interpreter import mend_interpreter

Tell = Callable[[dict[str, Any]], None]
# Imported once: processes are forked from there, before any of them touches the device.
_PRELOAD = ["torch", "manyview.bench.measure", "manyview.attention.methods", "tools.gpu_check.isolated"]


@dataclasses.dataclass(frozen=True)
class Case:
    """`run(tell, *arguments)` in a process of its own, for at most `seconds`.

    It calls `tell(figures)` as often as it likes: the last ones are the case's, also if it dies afterwards.
    """

    name: str
    run: Callable[..., None]
    arguments: tuple[Any, ...] = ()
    seconds: float = 60.0


@dataclasses.dataclass
class _Running:
    case: Case
    process: Any
    figures: Connection
    end: float


class Isolated:
    """Runs cases until `end` of `time.monotonic()`; figures of each go to `results` as they come."""

    def __init__(self, results: Results, end: float, show: Callable[[Results], str] | None = None) -> None:
        self._results, self._end, self._show = results, end, show
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_PRELOAD)

    def run(self, cases: Sequence[Case], together: int = 1, shortest: float = 5.0) -> None:
        """Run them in order, `together` at a time; what has less than `shortest` seconds left is left out."""
        waiting, running = list(cases), list[_Running]()
        while waiting or running:
            while waiting and len(running) < together:
                case = waiting.pop(0)
                if self._end - time.monotonic() < shortest:
                    self._put(case.name, {"status": "left out: no time"})
                else:
                    running.append(self._start(case))
            if running:
                wait([one.figures for one in running], timeout=0.2)
            for one in list(running):
                if self._over(one):
                    running.remove(one)

    def _start(self, case: Case) -> _Running:
        here, there = self._context.Pipe(duplex=False)
        log = self._results.folder / f"{''.join(c if c.isalnum() else '-' for c in case.name)}.log"
        process = self._context.Process(target=_work, args=(case, there, log), daemon=False)
        process.start()
        there.close()
        self._put(case.name, {"status": "begun"})
        return _Running(case, process, here, min(time.monotonic() + case.seconds, self._end))

    def _over(self, one: _Running) -> bool:
        """Take in what a case has told; whether it has ended, or had to be."""
        told = dict(self._results.cases[one.case.name])
        try:
            while one.figures.poll():
                told = {"status": "begun", **one.figures.recv()}
                self._put(one.case.name, told)
        except EOFError:
            one.process.join(5)
        if one.process.is_alive():
            if time.monotonic() < one.end:
                return False
            one.process.kill()
            one.process.join()
            told["status"] = "stopped: no time was left, or it hung"
        elif told["status"] == "begun":
            told["status"] = f"died: status {one.process.exitcode}"
        if told != self._results.cases[one.case.name]:
            self._put(one.case.name, told)
        return True

    def _put(self, name: str, figures: dict[str, Any]) -> None:
        self._results.cases[name] = figures
        if self._show is not None:
            self._results.text = self._show(self._results)
        self._results.save()
        if figures["status"] != "begun":
            sys.stdout.write(f"{name}: {figures['status']}\n")
            sys.stdout.flush()


def end_with_parent() -> None:
    """Let the system kill this process when the one that started it ends (Linux)."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _work(case: Case, figures: Connection, log: Path) -> None:
    """In the process of a case."""
    end_with_parent()
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    mend_interpreter()
    last: dict[str, Any] = {}

    def tell(found: dict[str, Any]) -> None:
        last.clear()
        last.update(found)
        figures.send(found)

    try:
        case.run(tell, *case.arguments)
        figures.send({**last, "status": last.get("status", "ok")})
    except BaseException as error:
        traceback.print_exc()
        said = (str(error).strip() or "no message").splitlines()[0]
        figures.send({**last, "status": f"failed: {type(error).__name__}: {said}"})
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # a device that is stuck would hold an orderly end
