"""`manyview batch`: every scene once, whoever dies; what failed is named and can be tried again."""

from __future__ import annotations

import contextlib
import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import manyview
from manyview.batch.run import SceneTask
from manyview.cli import main
from manyview.cli.batch import Batch
from manyview.cli.batch_scene import ReconstructScene
from manyview.reconstruction.result.load import load_reconstruction
from tests.batch.in_process import in_this_process
from tests.crashing import changes, every_death

from .conftest import Command

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "batch"


@pytest.fixture
def scenes(photos: Path, tmp_path: Path) -> Path:
    """Folders of images: hall, kitchen, roof; the images of the roof are damaged."""
    folder = tmp_path / "scenes"
    for number, name in enumerate(("kitchen", "hall", "roof")):
        (folder / name).mkdir(parents=True)
        shutil.copy(photos / f"{number}.png", folder / name / "photo.png")
    (folder / "roof" / "photo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


@pytest.fixture
def here(weights: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scenes are reconstructed in this process, by one network; their names."""
    network, done = manyview.load(weights), []
    monkeypatch.setattr("manyview.cli.options.ModelChoice.load", lambda _: network)
    monkeypatch.setattr("manyview.reconstruction.run.prepare.measure_flops", lambda *_: 1e9)
    monkeypatch.setattr("manyview.batch.run.run_side_by_side", in_this_process)
    plain = ReconstructScene.__call__

    def counted(self: ReconstructScene, model, task: SceneTask, *rest):
        done.append(task.scene.name)
        return plain(self, model, task, *rest)

    monkeypatch.setattr(ReconstructScene, "__call__", counted)
    return done


def rows(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "scenes.csv", newline="", encoding="utf-8") as file:
        return {row["scene"]: row for row in csv.DictReader(file)}


def test_scenes_of_a_folder(command: Command, scenes: Path, tmp_path: Path, here: list[str]) -> None:
    out = tmp_path / "out"
    status, said, _ = command("batch", scenes, out, "--to", "npz", "--image-size", 28)
    assert status == 1 and here == ["hall", "kitchen", "roof"]
    assert "roof failed: " in said and "photo.png" in said and "2/3 scenes, 1 failed" in said
    for name in ("hall", "kitchen"):
        assert len(load_reconstruction(out / name)) == 1 and list((out / name).glob("*.npz"))
    assert not (out / "roof").exists()
    found = rows(out)
    assert [found[name]["state"] for name in ("hall", "kitchen", "roof")] == ["done", "done", "failed"]
    assert float(found["hall"]["seconds"]) > 0 and int(found["hall"]["peak_mib"]) > 10
    assert "photo.png" in found["roof"]["sentence"]

    # The same again: what is done stays, what failed is tried; so it is as a list.
    shutil.copy(scenes / "hall" / "photo.png", scenes / "roof" / "photo.png")
    here.clear()
    line = (out / "failed.txt", out, "--resume", "--to", "npz", "--image-size", 28)
    status, said, _ = command("batch", *line)
    assert status == 0 and here == ["roof"] and "1 of 1 scenes done" in said
    status, said, _ = command("batch", scenes, out, "--to", "npz", "--image-size", 28)
    assert status == 0 and here == ["roof"] and not (out / "failed.txt").exists()
    assert {row["state"] for row in rows(out).values()} == {"done"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (("--accel", "frame"), "--accel"),
        (("--shard", "4/3"), "--shard"),
        (("--jobs", "0"), "jobs"),
        (("--retries", "-1"), "retries"),
        (("--to", "nonsense"), "nonsense"),
        (("--accel", "nonsense"), "nonsense"),
        (("--depth-size", "28"), "--depth-size"),
        (("--max-points", "5"), "--max-points"),
    ],
)
def test_what_cannot_be_is_said_before_anything_runs(
    command: Command, scenes: Path, tmp_path: Path, here: list[str], changes: tuple[str, ...], named: str
) -> None:
    shutil.rmtree(scenes / "roof")
    out = tmp_path / "out"
    assert command("batch", scenes, out, "--to", "none")[0] == 0
    here.clear()
    status, _, error = command("batch", scenes, out, "--to", "none", *changes)
    assert status in (1, 2) and named in error and error.count("\n") == 1 and not here


def test_folders_that_are_no_batch(command: Command, scenes: Path, tmp_path: Path, here: list[str]) -> None:
    for line, named in (
        ((scenes, scenes), "scenes"),
        ((scenes, scenes / "out"), "out"),
        ((scenes, tmp_path / "new", "--resume"), "--resume"),
        ((tmp_path / "nowhere", tmp_path / "new"), "nowhere"),
        ((scenes / "hall", tmp_path / "new"), "manyview reconstruct"),
    ):
        status, _, error = command("batch", *line)
        assert status in (1, 2) and named in error
    assert not here and not (tmp_path / "new").exists() and not (scenes / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.usefixtures("unchecked")
def test_a_runner_that_is_killed_anywhere_is_gone_on_with(
    scenes: Path, tmp_path: Path, here: list[str]
) -> None:
    shutil.rmtree(scenes / "roof")
    shutil.rmtree(scenes / "kitchen")
    out = tmp_path / "out"
    words = ["batch", str(scenes), str(out), "--to", "npz", "--image-size", "28"]
    parsed = main._parse(words)
    count = 0

    def prepare() -> None:
        shutil.rmtree(out, ignore_errors=True)

    for count in every_death(parsed.run, prepare, changes()):  # noqa: B007
        with contextlib.suppress(manyview.errors.ManyViewError):
            load_reconstruction(out / "hall")
        was_done = (out / "hall" / "reconstruction.json").exists()
        before = (out / "hall" / "arrays.safetensors").read_bytes() if was_done else b""
        assert parsed.run() == 0
        assert len(load_reconstruction(out / "hall")) == 1 and list((out / "hall").glob("*.npz"))
        if was_done:  # not made again
            assert (out / "hall" / "arrays.safetensors").read_bytes() == before
        assert not list(out.glob(".manyview-batch/claims/*.claim"))
    assert count >= 3


_MAY_SLEEP = """
import sys, time
import manyview.cli.reconstruct as module
from manyview.cli.main import main

class Sleeping(module.Reconstruct):
    def reconstructed(self, *rest):
        if "attic" in str(self.paths):
            time.sleep(100)
        return super().reconstructed(*rest)

if sys.argv[1] == "sleep":
    module.Reconstruct = Sleeping
if __name__ == "__main__":
    main(sys.argv[2:])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show processes")
def test_two_runners_and_one_that_is_killed(scenes: Path, weights: Path, tmp_path: Path) -> None:
    """The first is killed at a scene that takes for ever; the second does all, and nothing stays behind."""
    shutil.copytree(scenes / "hall", scenes / "attic")
    out = tmp_path / "out"
    script = tmp_path / "script.py"
    script.write_text(_MAY_SLEEP)
    line = ["batch", scenes, out, "--model", weights, "--to", "none", "--image-size", 28, "--retries", 0]
    place = {
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(tmp_path)},
        "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True,
    }  # fmt: skip

    def start(how: str) -> subprocess.Popen[str]:
        return subprocess.Popen([sys.executable, str(script), how, *map(str, line)], **place)

    with start("sleep") as first:
        claim = out / ".manyview-batch" / "claims" / "attic.1.claim"
        _until(claim.exists)
        with start("work") as second:
            _until((out / "kitchen" / "reconstruction.json").exists)
            _until(lambda: _children(first.pid))
            children = _children(first.pid)
            assert claim.exists()
            first.kill()
            first.wait()
            said, error = second.communicate(timeout=100)
    assert second.returncode == 1 and "3 of 4 scenes done, 1 failed" in said, error
    assert {row["attempts"] for row in rows(out).values()} == {"1"}
    assert len(load_reconstruction(out / "attic")) == 1
    _until(lambda: not any(_runs(child) for child in children))
    assert not list(tmp_path.glob("manyview-*")) and not list(claim.parent.iterdir())


def _until(true) -> None:
    end = time.monotonic() + 100
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(stat.parent.name))
    return found


def _runs(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    return False


SCHEDULERS = {
    "slurm.sh": lambda part, parts: {
        "SLURM_ARRAY_TASK_ID": str(part + 6),
        "SLURM_ARRAY_TASK_MIN": "7",
        "SLURM_ARRAY_TASK_COUNT": str(parts),
    },
    "pbs.sh": lambda part, parts: {"PBS_ARRAY_INDEX": str(part), "PBS_O_WORKDIR": "."},
    "kubernetes.yaml": lambda part, parts: {"JOB_COMPLETION_INDEX": str(part - 1), "PARTS": str(parts)},
}


@pytest.mark.skipif(sys.platform == "win32", reason="the scripts are for a shell")
@pytest.mark.parametrize("name", SCHEDULERS)
def test_examples_of_job_arrays(
    command: Command, photos: Path, tmp_path: Path, here: list[str], name: str
) -> None:
    scenes, out, parts = tmp_path / "all scenes", tmp_path / "out", 8
    for number in range(4):
        (scenes / f"scene {number}").mkdir(parents=True)
        shutil.copy(photos / f"{number}.png", scenes / f"scene {number}")
    stub = tmp_path / "bin" / "manyview"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    # Parts as job arrays give them: the numbers that the script itself names, then each task's.
    for part in range(1, parts + 1):
        given = {"SCENES": str(scenes), "OUT": str(out), "OPTIONS": "--to none --image-size 28"}
        given |= {"PATH": f"{stub.parent}{os.pathsep}{os.environ['PATH']}", **SCHEDULERS[name](part, parts)}
        done = subprocess.run(_program(name), env=given, capture_output=True, text=True, cwd=EXAMPLES)
        assert done.returncode == 0, done.stderr
        line = done.stdout.splitlines()
        assert line[:3] == ["batch", str(scenes), str(out)]
        parsed = main._parse(line)
        assert isinstance(parsed, Batch) and parsed.shard == f"{part}/{parts}"
        assert name != "slurm.sh" or command(*line)[0] == 0
    assert sorted(here) == ([f"scene_{number}" for number in range(4)] if name == "slurm.sh" else [])


def _program(name: str) -> list[str]:
    if not name.endswith(".yaml"):
        return ["bash", str(EXAMPLES / name)]
    yaml = pytest.importorskip("yaml")
    job = yaml.safe_load((EXAMPLES / name).read_text())["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert job["completionMode"] == "Indexed" and job["completions"] == int(container["env"][0]["value"])
    return [*container["command"], *container["args"]]


def test_a_script_that_is_stopped_lets_its_scenes_go(
    command: Command, scenes: Path, tmp_path: Path, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(self, *rest):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setattr(ReconstructScene, "__call__", stopped)
    out = tmp_path / "out"
    status, _, error = command("batch", scenes, out, "--to", "none")
    assert status == 1 and "stopped" in error
    assert not list((out / ".manyview-batch" / "claims").iterdir())
