"""Which scene a runner takes next, what it tries again, and when it is done; no processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from manyview.batch import run as module
from manyview.batch.claims import Claims, Runner
from manyview.batch.folder import open_batch
from manyview.batch.journal import Journal
from manyview.batch.pool import Answer, Failure
from manyview.batch.run import Progress, SceneDone, SceneTask, Schedule
from manyview.batch.scenes import Scene

SCENES = [Scene(name, f"/photos/{name}") for name in "abc"]
DONE = SceneDone(views=3, peak_bytes=4, settings_hash="hash of a")


class OneRunner:
    """A runner whose tasks the test answers."""

    def __init__(self, out: Path, name: str, retries: int = 1) -> None:
        hidden = open_batch(out, {})
        # On another machine, where nobody sees whether it lives.
        self.claims = Claims(hidden / "claims", Runner("far", "another boot", 1, 1, name))
        self.journal = Journal(hidden / "journal", name)
        self.schedule = Schedule(SCENES, out, self.claims, self.journal, retries)
        self.tasks: Iterator[SceneTask | None] = self.schedule.tasks()

    def next(self) -> str | None:
        """The name of the next scene, which becomes `task`; "over" at the end."""
        found = next(self.tasks, "over")
        if not isinstance(found, SceneTask):
            return found
        self.task = found
        return found.scene.name

    def answer(self, result: Any) -> Any:
        return self.schedule.ended(Answer(self.task, result, 1.5))

    def states(self) -> dict[str, str]:
        return {one.scene.name: one.state for one in self.schedule.outcomes()}


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Results are there if their folder is."""
    monkeypatch.setattr(module, "_holds", lambda folder, scene, entry: folder.is_dir())
    return tmp_path / "out"


def do(runner: OneRunner, out: Path, result: Any = DONE) -> Any:
    if isinstance(result, SceneDone) and not result.lost:
        runner.task.folder.mkdir()
    return runner.answer(result)


def test_scenes_in_their_order_each_once(out: Path) -> None:
    one = OneRunner(out, "one")
    for name in "abc":
        assert one.next() == name
        entry = do(one, out)
        assert entry.state == "done" and entry.views == 3 and entry.seconds == 1.5 and entry.attempt == 1
    assert one.next() == "over" and set(one.states().values()) == {"done"}
    again = OneRunner(out, "again")
    assert again.next() == "over" and again.states() == one.states()


def test_what_failed_is_tried_again_after_all_others(out: Path) -> None:
    one = OneRunner(out, "one", retries=2)
    assert one.next() == "a"
    do(one, out, Failure("no memory"))
    assert one.next() == "b"
    do(one, out, Failure("no such images", exit_code=2))  # no use
    assert one.next() == "c"
    do(one, out)
    assert one.next() == "a" and one.task.attempt == 2
    do(one, out, Failure("no memory"))
    assert one.next() == "a" and one.task.attempt == 3
    assert one.next() is None  # it may fail
    do(one, out, Failure("still none"))
    assert one.next() == "over"
    assert one.states() == {"a": "failed", "b": "failed", "c": "done"}
    assert one.schedule.outcomes()[0].entry.sentence == "still none"
    # The next call tries them again.
    again = OneRunner(out, "again", retries=0)
    assert again.next() == "a"
    do(again, out)
    assert again.next() == "b"
    do(again, out, Failure("no such images", exit_code=2))
    assert again.next() == "over" and again.states() == {"a": "done", "b": "failed", "c": "done"}


def test_a_result_that_is_gone_is_made_again(out: Path) -> None:
    one = OneRunner(out, "one")
    while one.next() != "over":
        do(one, out)
    (out / "b").rmdir()
    again = OneRunner(out, "again")
    assert again.next() == "b"


def test_two_runners_share_the_scenes(out: Path) -> None:
    one, two = OneRunner(out, "one"), OneRunner(out, "two")
    assert (one.next(), two.next(), one.next()) == ("a", "b", "c")
    assert two.next() is None  # b may fail
    do(two, out, Failure("no", exit_code=1))
    assert two.next() == "b"
    do(two, out)
    assert two.next() is None  # it is not known whether the other still works
    one.claims.beat()
    assert two.next() == "over"
    assert two.states() == {"a": "elsewhere", "b": "done", "c": "elsewhere"}


def test_a_runner_that_is_gone_leaves_its_scenes_to_others(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = OneRunner(out, "one"), OneRunner(out, "two")
    assert one.next() == "a" and two.next() == "b"
    do(two, out)
    assert two.next() == "c"
    do(two, out)
    assert two.next() is None
    monkeypatch.setattr(two.claims, "_stale_s", -1.0)
    assert two.next() == "a"
    lost = one.answer(SceneDone(lost=True))  # it wakes up
    assert lost is None
    do(two, out)
    assert two.next() == "over" and set(two.states().values()) == {"done"}


def test_lines_of_progress() -> None:
    assert str(Progress(37, 2, 200, 1.4)) == "37/200 scenes, 2 failed, 1.4/s, about 2 min left"
    assert str(Progress(1, 0, 3, 0.1)) == "1/3 scenes, 10.0 s each, about 20 s left"
    assert str(Progress(3, 0, 3, 2.0)) == "3/3 scenes, 2.0/s"
