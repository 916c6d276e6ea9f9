"""The pool: every task is answered, whatever becomes of its process."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from manyview.batch import pool
from manyview.batch.pool import Failure, run_side_by_side
from manyview.batch.shares import Share
from manyview.errors import InputError, ManyViewError
from tests.models.tiny import tiny_vggt

SHARES = [Share("cpu", None, 1, 1, 2)] * 2


@pytest.fixture(autouse=True)
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are copies of one that has imported all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda method: context)


def odd(model: Any, task: str, share: Share, tell: Any) -> Any:
    """What a task says."""
    if task == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if task == "misuse":
        raise InputError("no image can be used")
    if task == "bug":
        raise IndexError("out of range")
    tell(task.upper())
    if task == "long":
        time.sleep(100)
    return os.getpid(), sum(p.numel() for p in model.parameters())


class CannotBeLoaded:
    def __call__(self, *args: Any) -> None:
        """Never reached."""

    def __setstate__(self, state: Any) -> None:
        os._exit(7)

    def __getstate__(self) -> dict[str, int]:
        return {"a": 1}


def test_processes_that_die_are_replaced_and_every_task_is_answered(tmp_path: Path, monkeypatch) -> None:
    here = partial(tempfile.TemporaryDirectory, dir=tmp_path)
    monkeypatch.setattr(pool.tempfile, "TemporaryDirectory", here)
    model = tiny_vggt()
    tasks = iter(["a", "killed", None, "b", "misuse", "bug", "c", "killed", "d", "e"])
    told: list[tuple[str, str]] = []
    answers = list(
        run_side_by_side(model, tasks, odd, SHARES, lambda *one: told.append(one), keep_going=True)
    )
    results = {answer.task: answer.result for answer in answers}
    found = sorted(answer.task for answer in answers)
    assert found == sorted([*"abcde", "killed", "killed", "misuse", "bug"])
    assert results["killed"].died and "-9" in results["killed"].sentence
    assert results["misuse"] == Failure("no image can be used", 2, results["misuse"].trace)
    assert "IndexError" in results["bug"].sentence and "odd" in results["bug"].trace
    size = sum(p.numel() for p in model.parameters())
    assert all(results[name][1] == size for name in "abcde")
    # Two to begin with, and one in place of each that died or met a bug.
    assert len({results[name][0] for name in "abcde"}) <= 2 + 3
    assert sorted(told) == [(name, name.upper()) for name in "abcde"]
    assert not list(tmp_path.iterdir()) and not multiprocessing.active_children()


def test_a_cancelled_task_ends_with_its_process_and_the_rest_goes_on(monkeypatch) -> None:
    monkeypatch.setattr(pool, "_AGAIN_S", 0.05)
    told: list[str] = []

    def dead_when_idle() -> Any:
        yield from ("a", None, "long", "b", None)
        (idle,) = multiprocessing.active_children()
        os.kill(idle.pid, signal.SIGKILL)
        idle.join()
        yield from (None, "c")

    answers = run_side_by_side(
        tiny_vggt(), dead_when_idle(), odd, SHARES[:1], lambda task, _: told.append(task), True,
        cancelled=lambda task: task == "long" and "long" in told,
    )  # fmt: skip
    found = {answer.task: answer.result for answer in answers}
    assert list(found) == ["a", "long", "b", "c"] and told == list(found)
    assert isinstance(found["long"], Failure) and not found["long"].died and found["long"].exit_code
    assert len({found[name][0] for name in "abc"}) == 3  # one ended with its task, one while it had none


def test_nothing_is_begun_after_a_failure_unless_asked_for() -> None:
    tasks = iter(["misuse", "a", "b", "c", "d", "e"])
    answers = list(run_side_by_side(tiny_vggt(), tasks, odd, SHARES[:1]))
    assert [answer.task for answer in answers] == ["misuse"]
    assert next(tasks) == "a"


def test_a_model_that_cannot_be_loaded_ends_the_run() -> None:
    with pytest.raises(ManyViewError, match="7"):
        list(run_side_by_side(tiny_vggt(), iter("abcdefgh"), CannotBeLoaded(), SHARES, keep_going=True))


def test_without_tasks_nothing_is_started() -> None:
    assert list(run_side_by_side(tiny_vggt(), iter([]), CannotBeLoaded(), SHARES)) == []
