"""A server and its processes: the command by --server beside the command itself, and kills of either."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

import manyview
from manyview.errors import ServerError
from manyview.reconstruction.inputs.find import find_inputs
from manyview.serve.client import ServerClient
from manyview.serve.job import JobView, Submission

from ..cli.conftest import Command
from ..cli.test_batch import _children as children_of
from ..cli.test_batch import _until
from .waiting_server import WaitingServer

pytest.importorskip("fastapi", reason="the server needs the extra 'serve'")


class Server(WaitingServer):
    """A server and a client of it."""

    def __init__(self, place: Path, weights: Path) -> None:
        super().__init__(place, "serve", "--model", weights, "--token", "secret")
        self.client = ServerClient(self.url, "secret")

    def submit(self, photos: Path, name: str) -> str:
        files = find_inputs(photos / "0.png").files
        return self.client.submit(files, {"to": ["none"], "image_size": 28}, Submission(name=name)).id

    def until(self, id: str, true: Callable[[JobView], bool]) -> JobView:
        end = time.monotonic() + 100
        while not true(job := self.client.job(id)):
            assert time.monotonic() < end and job.state != "failed", job
            time.sleep(0.02)
        return job


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("served")


@pytest.fixture(scope="module")
def running(place: Path, weights: Path) -> Iterator[list[Server]]:
    """The server that runs; who ends it puts another in its place."""
    servers = [Server(place, weights)]
    yield servers
    servers[0].client.close()
    said = servers[0].end()
    assert servers[0].process.returncode == 0 and "stopped" in said


def facts(folder: Path) -> dict[str, object]:
    """What a result says but for times, memory and the number of its save."""
    header = json.loads((folder / "reconstruction.json").read_text())
    return {name: header[name] for name in header if name not in ("save_id", "timings_s", "memory_bytes")}


def plain(said: str, folder: Path) -> list[str]:
    """Lines without times, memory and the name of the folder, sorted."""
    said = re.sub(r"[0-9.]+ s |[a-z]+ [0-9.]+[,)]|[0-9]+ MiB", "", said.replace(str(folder), "OUT"))
    return sorted(said.splitlines())


def test_the_result_of_a_server_is_that_of_the_command(
    running: list[Server], command: Command, photos: Path, weights: Path, tmp_path: Path, monkeypatch
) -> None:
    (photos / "sub").mkdir()
    odd = (photos / "3.png").rename(photos / "sub" / "%22.png")
    here, there = tmp_path / "here", tmp_path / "there"
    options = ("--image-size", 28, "--precision", "fp32", "--max-frames", 3)
    options = (*options, "--to", "npz", "nerfstudio", "--images", "copy")
    line = ("reconstruct", photos, there, *options, "--server", running[0].url)
    status, _, error = command(*line)
    assert status == 2 and "token" in error
    monkeypatch.setenv("MANYVIEW_TOKEN", "secret")
    for more in (("--known-depth", photos), ("--device", "cpu"), ("--receipt",), ("--model", "vggt-1b")):
        status, _, error = command(*line, *more)
        assert status == 2 and (more[0] in error or "tiny" in error) and error.count("manyview: ") == 1
    status, _, error = command(*line)
    assert status == 2 and "%22.png" in error and not there.exists()
    _until(lambda: not running[0].client.jobs())

    odd.rename(photos / "sub" / 'x "10" \\y.png')
    (photos / "1.png").write_bytes(b"damaged")
    status, local, _ = command("reconstruct", photos, here, *options, "--model", weights)
    assert status == 0
    status, said, _ = command(*line)
    assert status == 0 and plain(said, there) == plain(local, here)
    assert facts(there) == facts(here)
    ours, theirs = (manyview.load_reconstruction(folder) for folder in (here, there))
    for name in ("images", "z_depth", "depth_conf", "cam_from_world", "intrinsics"):
        assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name
    assert [path.name for path in sorted(here.rglob("*"))] == [path.name for path in sorted(there.rglob("*"))]
    assert not running[0].client.jobs() and len(list(running[0].jobs.iterdir())) == 2

    before = (there / "arrays.safetensors").stat().st_mtime_ns
    shutil.rmtree(there / "images")
    status, said, _ = command(*line)
    assert status == 0 and "already holds" in said and (there / "images" / "0.png").exists()
    status, _, error = command(*line, "--accel", "frame")
    assert status == 1 and "--overwrite" in error
    assert (there / "arrays.safetensors").stat().st_mtime_ns == before
    status, _, _ = command(*line, "--accel", "frame", "--overwrite")
    assert status == 0 and manyview.load_reconstruction(there).settings["accel"] == "frame"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show processes")
def test_kills_of_either_and_what_is_cancelled(
    running: list[Server], photos: Path, place: Path, weights: Path
) -> None:
    server = running[0]
    client = server.client
    server.hold.touch()
    slow, other = server.submit(photos, "slow"), server.submit(photos, "other")
    server.until(slow, lambda job: job.stage == "wait")
    (worker,) = [
        child
        for child in children_of(server.process.pid)
        if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]
    os.kill(worker, signal.SIGKILL)
    server.until(slow, lambda job: job.stage != "wait")
    server.until(slow, lambda job: job.stage == "wait")  # again, in a new process
    assert client.job(other).position == 1
    client.remove(slow)
    assert server.until(other, lambda job: job.state == "done").views == 1
    with pytest.raises(ServerError, match=slow):
        client.job(slow)

    slow, waiting = server.submit(photos, "slow"), server.submit(photos, "waiting")
    server.until(slow, lambda job: job.stage == "wait")
    server.client.close()
    server.process.kill()
    server.process.communicate()
    server.hold.unlink()
    running[0] = server = Server(place, weights)
    for id in (slow, waiting, other):
        assert server.until(id, lambda job: job.state == "done").views == 1
        assert sorted(server.client.files(id)) == ["arrays.safetensors", "reconstruction.json"]
