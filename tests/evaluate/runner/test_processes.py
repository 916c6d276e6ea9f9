"""Scenes side by side: the same figures, keys and order as one by one; failures named, the rest kept."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import indent

import pytest

from manyview.batch import pool
from manyview.datasets import dataset_named
from manyview.errors import InputError, ManyViewError, UsageError
from manyview.evaluate.report.evaluation import evaluation_table
from manyview.evaluate.report.files import read_evaluation, write_evaluation
from manyview.evaluate.runner.image_sets import evaluate_dataset
from manyview.evaluate.runner.records import Evaluation
from manyview.evaluate.runner.streamed import streamed_plans
from manyview.reconstruction.run.options import ReconstructOptions
from tests.datasets.posed_fixtures import write_seven_scenes
from tests.interrupting import LISTENS_TO_CTRL_C
from tests.models.tiny import tiny_vggt

from .test_loop import QUICK

SCENES = ("chess/seq-01", "fire/seq-02", "heads/seq-01")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in SCENES:
        write_seven_scenes(tmp_path / "data" / name)
    return tmp_path / "data"


def run(root: Path, *plans: str, **changes) -> Evaluation:
    options = ReconstructOptions(precision="fp32")
    given = (tiny_vggt(), dataset_named("7-scenes"), root, QUICK, plans)
    return evaluate_dataset(*given, options=options, workers=1, **changes)


def what_decides(found: Evaluation) -> str:
    """Everything but seconds, memory and the remark on seconds."""
    data = found.to_json()
    for scene in data["scenes"]:
        for row in scene["rows"]:
            row["timings_s"] = row["memory_bytes"] = None
            row["notes"] = [note for note in row["notes"] if "at a time" not in note]
    for figures in data["summary"].values():
        figures["forward_s"] = None
    return json.dumps(data)


def test_two_at_a_time_give_what_one_by_one_gives(root: Path, tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    kept: list[Evaluation] = []
    streams = streamed_plans(tiny_vggt(), ["flash:r=2"], (2,))
    serial = run(root, "frame", streams=streams)
    both = run(
        root, "frame", streams=streams, jobs=2, progress=lambda *a: heard.append(a), on_scene=kept.append
    )
    assert what_decides(both) == what_decides(serial)
    assert [scene.name for scene in both.scenes] == list(SCENES)
    assert heard == [(i, 9) for i in range(1, 10)] and [len(one.scenes) for one in kept] == [1, 2, 3]
    assert "seconds were taken with 2 scenes at a time" in evaluation_table(both)
    assert "at a time" not in evaluation_table(serial)
    # What one left, the other goes on with: nothing is measured again, seconds are those of before.
    (tmp_path / "out").mkdir()
    paths = write_evaluation(both, tmp_path / "out", "a command")
    earlier = read_evaluation(paths[0]).scenes
    assert run(root, "frame", streams=streams, earlier=earlier) == both


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are copies of one that has imported all: for what happens after their start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    monkeypatch.setattr(pool.multiprocessing, "get_context", lambda method: context)


@pytest.mark.usefixtures("forked")
def test_a_failure_names_its_scene_and_others_are_kept(root: Path) -> None:
    (root / "fire" / "seq-02" / "frame-000002.depth.png").write_bytes(b"damaged")
    kept: list[Evaluation] = []
    with pytest.raises(ManyViewError) as error:
        run(root, jobs=2, on_scene=kept.append)
    assert "fire/seq-02" in str(error.value) and "frame-000002.depth.png" in str(error.value)
    assert error.value.exit_code == InputError.exit_code
    names = {scene.name for scene in kept[-1].scenes}
    assert "chess/seq-01" in names and "fire/seq-02" not in names
    with pytest.raises(UsageError, match="0"):
        run(root, jobs=0)


@pytest.mark.usefixtures("forked")
def test_a_process_that_is_killed_names_its_scene(root: Path, monkeypatch) -> None:
    monkeypatch.setattr(pool, "_serve", _dies)
    with pytest.raises(ManyViewError, match=r"(chess|fire)/seq-0.*3.*--jobs"):
        run(root, jobs=2)


def _dies(connection, weights, share, keep_going) -> None:
    connection.recv()
    os._exit(3)


# Workers run the script's first lines too; they must not listen.
_SCRIPT = (
    """
import sys, time
from pathlib import Path
from manyview.evaluate.report.files import write_evaluation
from tests.evaluate.runner.test_processes import run

data, out = map(Path, sys.argv[1:])

def keep(so_far):
    write_evaluation(so_far, out, "a command")
    print("kept", flush=True)
    time.sleep(60)

if __name__ == "__main__":
"""
    + indent(LISTENS_TO_CTRL_C, "    ")
    + "    run(data, jobs=2, on_scene=keep)\n"
)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups to interrupt")
def test_ctrl_c_leaves_a_result_to_go_on_with(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "script.py").write_text(_SCRIPT)
    line = [sys.executable, str(tmp_path / "script.py"), str(root), str(out)]
    place = {
        "cwd": Path(__file__).parents[3],
        "env": {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path, str(Path(__file__).parents[3])])},
    }
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, **place
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "kept\n"
        os.killpg(process.pid, signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert stderr.count("Traceback") == 1 and "KeyboardInterrupt" in stderr  # of the parent alone
    with pytest.raises(ProcessLookupError):
        for _ in range(200):  # Python's own tracker of resources takes a moment to notice
            os.killpg(process.pid, 0)
            time.sleep(0.05)
    half = read_evaluation(out / "7-scenes.quick.json")
    assert len(half.scenes) == 1
    assert what_decides(run(root, earlier=half.scenes)) == what_decides(run(root))
