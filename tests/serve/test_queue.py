"""The queue on the disk: what becomes of a job, whoever cancels, dies or is killed."""

from __future__ import annotations

import json
import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from manyview.batch.pool import Answer, Failure
from manyview.errors import OutputError
from manyview.serve.folder import INPUT_NAME, JOB_NAME
from manyview.serve.job import Job, Line, NoSuchJobError, Outcome, QueueFullError, StoredFile, Submission
from manyview.serve.queue import JobQueue, JobTask, open_queue
from tests.crashing import changes, every_death


def submit(queue: JobQueue, name: str = "photos") -> str:
    with queue.staging() as stage:
        (stage / INPUT_NAME).mkdir()
        (stage / INPUT_NAME / "a.png").write_bytes(b"x")
        return queue.submit(stage, Submission(name=name), {}, [StoredFile("a.png", "a.png", 1)]).id


def begin(queue: JobQueue) -> JobTask:
    task = next(queue.tasks())
    assert task is not None
    return task


def end(queue: JobQueue, task: JobTask, result: Outcome | Failure) -> None:
    queue.ended(Answer(task, result, 1.5))


def stored(queue: JobQueue, id: str) -> dict[str, object]:
    return json.loads((queue.folder / id / JOB_NAME).read_text())


def test_jobs_in_their_order_and_what_is_told_of_them(queue: JobQueue, told: list[Job]) -> None:
    assert next(queue.tasks()) is None
    first, second = submit(queue), submit(queue)
    assert [queue.view(id).position for id in (first, second)] == [1, 2]
    with pytest.raises(QueueFullError, match="2"):
        submit(queue)
    assert len(list(queue.folder.iterdir())) == 4  # jobs, the mark and the lock: nothing of the refused one
    task = begin(queue)
    assert task.job.id == first and (task.folder / INPUT_NAME / "a.png").is_file()
    assert queue.view(second).position == 1 and stored(queue, first)["state"] == "running"
    queue.heard(task, Line("said", "note: hm"))
    queue.heard(task, "about 3 s")
    queue.heard(task, ("reconstruct", 3, 4))
    seen = queue.view(first)
    assert (seen.stage, seen.share, seen.expected, seen.lines[0].text) == (
        "reconstruct", 0.75, "about 3 s", "note: hm",
    )  # fmt: skip
    with pytest.raises(NoSuchJobError, match=first):
        queue.result_folder(first)
    end(queue, task, Outcome(views=2))
    assert queue.view(first).views == 2 and queue.result_folder(first).parent == queue.folder / first
    end(queue, begin(queue), Failure("no image can be used", 2))
    seen = queue.view(second)
    assert (seen.state, seen.sentence, seen.exit_code) == ("failed", "no image can be used", 2)
    assert [job.id for job in told] == [first, second] == [job.id for job in queue.jobs()]


def test_a_job_whose_process_died_is_begun_again_once(queue: JobQueue) -> None:
    first, _ = submit(queue), submit(queue)
    for again in (True, False):
        task = begin(queue)
        assert task.job.id == first  # not behind the other
        end(queue, task, Failure("its process ended", died=True))
        assert queue.view(first).state == ("queued" if again else "failed")
    assert "process" in queue.view(first).sentence


def test_what_is_cancelled_goes_with_its_files(queue: JobQueue, told: list[Job]) -> None:
    first, second = submit(queue), submit(queue)
    assert queue.remove(second).state == "cancelled" and not (queue.folder / second).exists()
    task = begin(queue)
    assert not queue.is_cancelled(task)
    queue.remove(first)
    assert queue.is_cancelled(task) and (queue.folder / first).exists()  # its process is still at it
    end(queue, task, Outcome())
    assert not told and not queue.jobs() and not (queue.folder / first).exists()
    with pytest.raises(NoSuchJobError, match=first):
        queue.view(first)


def test_after_a_restart(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "jobs"
    with open_queue(folder) as queue:
        done, running, waiting, cancelled, damaged, endless = [submit(queue, str(i)) for i in range(6)]
        end(queue, begin(queue), Outcome(views=7))
        begin(queue)
        document = stored(queue, cancelled)
        (folder / cancelled / JOB_NAME).write_text(json.dumps({**document, "state": "cancelled"}))
        (folder / damaged / JOB_NAME).write_text("{")
        often = {**stored(queue, endless), "state": "running", "starts": 5}
        (folder / endless / JOB_NAME).write_text(json.dumps(often))
        left = folder / ".manyview-partial-1-upload"
        left.mkdir()
        with ThreadPoolExecutor(1) as other, pytest.raises(OutputError, match="jobs"):
            other.submit(open_queue(folder).__enter__).result()
    with caplog.at_level(logging.WARNING), open_queue(folder) as queue:
        assert damaged in caplog.text
        states = {job.id: (job.state, job.position) for job in queue.jobs()}
        assert states == {
            done: ("done", None), running: ("queued", 1), waiting: ("queued", 2), endless: ("failed", None),
        }  # fmt: skip
        assert queue.view(done).views == 7 and "5" in queue.view(endless).sentence
        assert not left.exists() and not (folder / cancelled).exists() and (folder / damaged).exists()
        begin(queue)
        queue.stop()
        end(queue, JobTask(queue._jobs[running], folder / running), Failure("it was cancelled"))
        assert stored(queue, running)["state"] == "queued"
        assert list(queue.tasks()) == []


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(OutputError, match=r"mine\.txt"), open_queue(tmp_path):
        pass  # pragma: no cover
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.usefixtures("unchecked")
def test_a_kill_anywhere_loses_no_job_that_was_accepted(tmp_path: Path) -> None:
    folder, accepted = tmp_path / "jobs", tmp_path / "accepted"

    def prepare() -> None:
        accepted.unlink(missing_ok=True)
        if folder.exists():
            os.rename(folder, tmp_path / f"old-{len(list(tmp_path.iterdir()))}")

    def run() -> None:
        with open_queue(folder) as queue:
            accepted.write_text(submit(queue))
            end(queue, begin(queue), Outcome(views=3))
            queue.remove(accepted.read_text())

    count = 0
    for count in every_death(run, prepare, changes()):
        with open_queue(folder) as queue:
            found = queue.jobs()
            assert len(found) <= 1 and {job.state for job in found} <= {"queued", "done"}
            if accepted.exists() and not found:
                assert count >= 4  # it was being removed
            assert len([path for path in folder.iterdir() if path.is_dir()]) == len(found)
    assert count >= 4
