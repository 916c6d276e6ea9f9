"""`manyview reconstruct` over several processes: the result of one, and one sentence when one fails."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch.distributed.run as torchrun

import manyview
from manyview.attention.global_attention import GlobalAttention
from manyview.cli import main
from manyview.distributed.environment import RankEnvironment
from manyview.distributed.join import own_device
from manyview.distributed.launch import devices_of
from manyview.errors import UsageError
from manyview.reconstruction.result.load import load_reconstruction
from manyview.reconstruction.result.result import Reconstruction
from tests.batch.in_process import in_this_process
from tests.distributed.forked import Ended, environment, forked

from . import faulty_ranks
from .conftest import Command

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at /proc, and forks")
EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "distributed"
ARRAYS = ("images", "cam_from_world", "intrinsics", "z_depth", "depth_conf")
HOW = ("--to", "ply", "--precision", "fp32", "--accel", "dense")


@pytest.fixture
def network(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loaded once, for this process and those forked from it."""
    loaded = manyview.load(weights)
    monkeypatch.setattr("manyview.cli.options.ModelChoice.load", lambda _: loaded)
    monkeypatch.setattr("manyview.reconstruction.run.prepare.measure_flops", lambda *_: 1e9)


@pytest.fixture
def quick_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes are forked from one that has imported what they need."""
    multiprocessing.set_forkserver_preload(["torch.distributed.launcher.api", "tests.cli.faulty_ranks"])
    monkeypatch.setattr("manyview.distributed.launch._START_METHOD", "forkserver")


def assert_same(found: Reconstruction, wanted: Reconstruction) -> None:
    for name in ARRAYS:
        ours, theirs = getattr(found, name).astype(float), getattr(wanted, name).astype(float)
        assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max(), name
    assert found.names == wanted.names and len(found) == 4


def content(folder: Path) -> dict[str, bytes]:
    """Every file of a folder, hidden ones too."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sentence(errors: str) -> str:
    """The one sentence of a failure; there are no others, and no traceback."""
    found = [line for line in errors.splitlines() if line.startswith("manyview: ")]
    assert len(found) == 1 and "Traceback" not in errors, errors
    return found[0]


def parent(pid: int) -> int | None:
    """The process that started another one, None where that has ended."""
    with contextlib.suppress(OSError):
        state, number = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[:2]
        return None if state in "ZX" else int(number)
    return None


def ranks_beside(pid: int) -> list[int]:
    """The processes that were started by the one that started `pid`, itself included."""
    everyone = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return [other for other in everyone if parent(other) == parent(pid)]


def until(true: Callable[[], object], most_s: float = 100.0) -> None:
    start = time.monotonic()
    while not true():
        assert time.monotonic() - start < most_s
        time.sleep(0.02)


@pytest.mark.slow
def test_devices_give_the_result_of_one_process(
    command: Command, photos: Path, weights: Path, tmp_path: Path, quick_start: None
) -> None:
    how = ("--model", weights, *HOW)
    assert command("reconstruct", photos, tmp_path / "one", *how, "--device", "cpu")[0] == 0
    status, said, errors = command("reconstruct", photos, tmp_path / "two", *how, "--devices", "cpu,cpu")
    assert status == 0, errors
    assert "4 views" in said and "manyview: " not in errors
    assert_same(load_reconstruction(tmp_path / "two"), load_reconstruction(tmp_path / "one"))
    assert content(tmp_path / "two").keys() == content(tmp_path / "one").keys()


@pytest.mark.slow
def test_a_rank_is_killed_in_the_pass(
    command: Command, photos: Path, weights: Path, tmp_path: Path, quick_start: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    line = ("reconstruct", photos, out, "--model", weights, *HOW)
    assert command(*line, "--image-size", 42)[0] == 0
    before, ranks, killed = content(out), [], []

    def kill() -> None:
        until((tmp_path / "pid").exists)
        pid = int((tmp_path / "pid").read_text())
        ranks.extend(ranks_beside(pid))
        os.kill(pid, signal.SIGKILL)
        killed.append(time.monotonic())

    monkeypatch.setattr("manyview.cli.several_ranks._launched", faulty_ranks.stuck)
    killer = threading.Thread(target=kill)
    killer.start()
    status, _, errors = command(*line, "--overwrite", "--devices", "cpu,cpu")
    ended = time.monotonic()
    killer.join()
    assert status == 1 and "rank 1 of 2" in sentence(errors) and ended - killed[0] < 10
    assert len(ranks) >= 2 and not any(map(parent, ranks))
    assert content(out) == before


@pytest.mark.slow
def test_the_parent_is_killed(
    photos: Path, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr("manyview.cli.several_ranks._launched", faulty_ranks.stuck)
    line = ["reconstruct", str(photos), str(out), "--model", str(weights), *HOW, "--devices", "cpu,cpu"]
    started = os.fork()
    if started == 0:
        with contextlib.suppress(BaseException):
            main.run(line)
        os._exit(70)
    until((tmp_path / "pid").exists)
    ranks = ranks_beside(int((tmp_path / "pid").read_text()))
    assert len(ranks) >= 2 and parent(ranks[0]) == started
    os.kill(started, signal.SIGKILL)
    os.waitpid(started, 0)
    until(lambda: not any(map(parent, ranks)), 10.0)
    assert not (out / "reconstruction.json").exists()


SLURM = {
    "SLURM_JOB_ID": "17", "SLURM_JOB_NODELIST": "node[3-4]", "SLURM_NNODES": "2", "SLURM_GPUS_ON_NODE": "1",
}  # fmt: skip


def test_slurm(command: Command, photos: Path, weights: Path, network: None, tmp_path: Path) -> None:
    """The script starts torchrun, and what torchrun starts makes the result together."""
    programs = {"srun": 'printf "%s\\n" "$@"', "scontrol": "printf 'node3\\nnode4\\n'"}
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    given = {"PHOTOS": str(photos), "OUT": str(tmp_path / "out"), "OPTIONS": " ".join(HOW), **SLURM}
    given |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", EXAMPLES / "slurm.sh"], env=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    program, *arguments = done.stdout.splitlines()
    parsed = torchrun.parse_args(arguments)
    assert (program, parsed.nnodes, parsed.nproc_per_node, parsed.max_restarts) == ("torchrun", "2", "1", 0)
    assert (parsed.rdzv_id, parsed.rdzv_backend, parsed.rdzv_endpoint) == ("17", "c10d", "node3:29500")
    assert parsed.no_python and parsed.training_script == "manyview"
    line = parsed.training_script_args
    ranks = forked(2, lambda _: main.run(line), tmp_path)
    assert [rank.status for rank in ranks] == [0, 0], ranks
    assert "4 views" in ranks[0].said and not ranks[1].said
    assert command("reconstruct", photos, tmp_path / "one", "--device", "cpu", *HOW)[0] == 0
    assert_same(load_reconstruction(tmp_path / "out"), load_reconstruction(tmp_path / "one"))


def failed(ranks: list[Ended]) -> str:
    """The one sentence that all ranks together say."""
    assert all(rank.status not in (0, 70) for rank in ranks), ranks
    return sentence("\n".join(rank.errors for rank in ranks))


@pytest.mark.parametrize("fault", ["memory", "damaged", "options", "killed", "late"])
def test_a_rank_fails(
    photos: Path, network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    out = tmp_path / "out"
    line = ["reconstruct", str(photos), str(out), *HOW, "--device", "cpu"]
    monkeypatch.setattr("manyview.distributed.watch._SUSPECT_SILENT_S", 1.0)
    monkeypatch.setattr("manyview.distributed.watch._CLEAN_UP_S", 0.3)
    monkeypatch.setattr("manyview.distributed.watch._BEAT_S", 0.1)
    monkeypatch.setattr("manyview.distributed.join._STAY_S", 0.5)
    monkeypatch.setattr("manyview.distributed.watch._CAUSE_S", 3.0 if fault == "killed" else 0.5)
    plain = GlobalAttention.__call__

    def faulty(*arguments: object) -> object:
        if os.environ.get("RANK") == "1":
            if fault == "memory":
                raise MemoryError
            if fault == "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(5.0)
        return plain(*arguments)

    if fault in ("memory", "killed", "late"):
        monkeypatch.setattr(GlobalAttention, "__call__", faulty)
    if fault == "damaged":
        name = photos / "3.png"
        name.write_bytes(name.read_bytes()[:-400])
    if fault == "late":
        line += ["--rank-timeout", "1"]
    other = [*line, "--image-size", "42"] if fault == "options" else line
    start = time.monotonic()
    ranks = forked(2, lambda rank: main.run(other if rank else line), tmp_path)
    assert time.monotonic() - start < 20
    said = failed(ranks)
    named = {"damaged": "3.png", "options": "--image-size", "late": "--rank-timeout"}
    assert named.get(fault, "rank 1 of 2") in said
    assert not out.exists()


@pytest.mark.parametrize("verb", ["batch", "reconstruct"])
def test_batch_does_not_join(
    command: Command, photos: Path, network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Its scenes are those of one process each; a process that torchrun started alone is one too."""
    count = 2 if verb == "batch" else 1
    for name, value in environment(0, count, 9).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("manyview.batch.run.run_side_by_side", in_this_process)
    (tmp_path / "scenes").mkdir()
    shutil.copytree(photos, tmp_path / "scenes" / "one")
    given = tmp_path / "scenes" if verb == "batch" else photos
    assert command(verb, given, tmp_path / "out", "--to", "none", "--image-size", 28)[0] == 0


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--devices", "cpu,cpu", "--device", "cpu"), "--device"),
        (("--devices", "cpu,cpu", "--receipt"), "--receipt"),
        (("--devices", "cpu,cpu", "--sky"), "--sky"),
        (("--devices", "0,cpu"), "--devices"),
        (("--devices", "0,0"), "--devices"),
        (("--devices", "all,0"), "--devices"),
        (("--devices", "0,2"), "--devices"),
        (("--rank-timeout", 5), "--rank-timeout"),
    ],
)
def test_options_that_cannot_be(
    command: Command, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: tuple[object, ...], named: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    status, _, errors = command("reconstruct", photos, tmp_path / "out", *options)
    assert status == 2 and named in sentence(errors) and not (tmp_path / "out").exists()


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert devices_of("all") == devices_of("0, 1") == devices_of("cuda:0,cuda:1") == ("cuda:0", "cuda:1")
    assert devices_of("cpu,cpu,cpu") == ("cpu",) * 3 and devices_of("1") == ("cuda:1",)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    with pytest.raises(UsageError, match="all"):
        devices_of("all")


def test_the_device_of_a_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    ranks = [RankEnvironment.find(environment(rank, 3, 9)) for rank in range(3)]
    assert [str(own_device(rank, "auto")) for rank in ranks[:2] if rank] == ["cuda:0", "cuda:1"]
    assert ranks[2] is not None and str(own_device(ranks[2], "cpu")) == "cpu"
    with pytest.raises(UsageError, match="cards"):
        own_device(ranks[2], "cuda")
    with pytest.raises(UsageError, match="cuda:1"):
        own_device(ranks[2], "cuda:1")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    assert str(own_device(ranks[2], "auto")) == "cuda:0"
