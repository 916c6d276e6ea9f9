"""What the process of a job does: the command's result, its sentences, and what need not be computed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import manyview
from manyview.batch.shares import Share
from manyview.cli.options import ModelChoice
from manyview.cli.serve_job import ReconstructJob
from manyview.reconstruction.result.arrays import hash_settings
from manyview.serve.job import Job, JobView
from manyview.serve.queue import JobQueue
from tests.batch.in_process import in_this_process

from ..cli.conftest import Command
from ..reconstruction.test_video import _counting as counting_video
from .conftest import LIMITS

SMALL = {"image_size": 28, "to": ["npz"]}


@pytest.fixture
def run(
    queue: JobQueue, http: Any, weights: Path, told: list[Job], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[JobView]]:
    """Submit and do jobs, each (files by name, options, what else is asked), in this process."""
    network = manyview.load(weights)

    def call(*jobs: tuple[dict[str, Path], dict[str, Any], dict[str, Any]]) -> list[JobView]:
        ids = []
        for files, options, asked in jobs:
            parts = [("files", (name, path.read_bytes())) for name, path in files.items()]
            texts = {"options": json.dumps(options), "about": json.dumps(asked)}
            answer = http().post("/jobs", files=parts, data=texts)
            assert answer.status_code == 201, answer.text
            ids.append(answer.json()["id"])
        before = len(told)

        def until_all(tasks: Any) -> Any:
            for task in tasks:
                if len(told) == before + len(ids):
                    return
                yield task

        monkeypatch.setattr(
            "manyview.serve.queue.run_side_by_side",
            lambda model, tasks, *rest, **more: in_this_process(model, until_all(tasks), *rest, **more),
        )
        queue.run(network, ReconstructJob(ModelChoice(model=str(weights))), [Share("cpu", None, 1, 1, 1)])
        return [queue.view(id) for id in ids]

    return call


def test_results_as_the_command_makes_them(
    run: Any, queue: JobQueue, command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    here = tmp_path / "here"
    inputs = [photos / f"{number}.png" for number in (2, 0)]  # in this order
    line = ("reconstruct", *inputs, here, "--model", weights, "--image-size", 28, "--to", "npz")
    assert command(*line)[0] == 0
    local = manyview.load_reconstruction(here)
    files = {path.name: path for path in inputs}
    asked = {"name": "trip", "notes": ["mind the step"]}
    new, same = run((files, SMALL, asked), (files, SMALL, {"earlier": local.settings}))
    there = manyview.load_reconstruction(queue.result_folder(new.id))
    assert there.settings == local.settings and there.names == ("2.png", "0.png")
    assert np.array_equal(there.z_depth, local.z_depth)
    assert np.array_equal(there.cam_from_world, local.cam_from_world)
    assert "mind the step" in there.notes and any("mind the step" in line.text for line in new.lines)
    assert (new.compared, new.views, new.share) == ("new", 2, 1.0)
    assert new.quality is not None and "2 views" in new.expected and new.peak_bytes > 0
    assert list(queue.result_folder(new.id).glob("*.npz"))
    assert str(tmp_path) not in "".join(line.text for line in new.lines)
    assert (same.state, same.compared) == ("done", "same")
    assert not (queue.folder / same.id / "result" / "arrays.safetensors").exists()

    changed = {**local.settings, "accel": "frame"}
    refined = {**local.settings, "refine": {"camera": "shared"}}
    assert hash_settings(changed) != local.settings_hash
    found = run((files, SMALL, {"earlier": changed}), (files, SMALL, {"earlier": refined}))
    assert [job.compared for job in found] == ["other", "other"]


def test_a_job_that_fails_says_what_the_command_says(
    run: Any, command: Command, photos: Path, weights: Path, tmp_path: Path
) -> None:
    for number in (0, 1):
        (photos / f"{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    inputs = [photos / "0.png", photos / "1.png"]
    status, _, said = command("reconstruct", *inputs, tmp_path / "here", "--model", weights)
    damaged, alone = run(
        ({path.name: path for path in inputs}, SMALL, {"name": "the given paths"}),
        ({"0.png": inputs[0]}, SMALL, {}),
    )
    (long,) = run(({"2.png": photos / "2.png"}, {**SMALL, "chunk": 1}, {}))
    assert damaged.sentence == said.splitlines()[-1].removeprefix("manyview: ")
    assert (damaged.state, damaged.exit_code) == ("failed", status) == ("failed", 2)
    assert alone.sentence.startswith("'0.png' ") and str(tmp_path) not in alone.sentence
    assert "--chunk" in long.sentence and long.exit_code == 2


def test_a_video_gives_no_more_frames_than_images_may_be_sent(
    run: Any, http: Any, queue: JobQueue, tmp_path: Path
) -> None:
    pytest.importorskip("av", reason="videos need the extra 'video'")
    video = counting_video(tmp_path / "walk.mp4", 20)
    (done,) = run(({"walk.mp4": video}, {**SMALL, "stride": 1}, {}))
    scene = manyview.load_reconstruction(queue.result_folder(done.id))
    assert len(scene) == LIMITS.max_images and scene.views[-1].video_frame == 19
    parts = [("files", ("walk.mp4", video.read_bytes()))]
    answer = http().post("/jobs", files=parts, data={"options": '{"max_frames": 4}'})
    assert answer.status_code == 413 and "max_frames" in answer.json()["error"]
