"""Claims: one holder at a time, whoever dies, sleeps or has a wrong clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from manyview.batch import claims as module
from manyview.batch.claims import ClaimLost, Claims, Runner

NAMES = [f"scene.{i}" for i in range(200)]


def runner(nonce: str, host: str = "elsewhere") -> Runner:
    """One on another machine, of which nothing is known but its touches."""
    return Runner(host, "another boot", 1, 1, nonce)


def age(folder: Path, seconds: float) -> None:
    """Let all claims have been touched so much earlier."""
    for path in folder.glob("*.claim"):
        touched = path.stat().st_mtime - seconds
        os.utime(path, (touched, touched))


def test_a_scene_has_one_holder(tmp_path: Path) -> None:
    a, b = Claims(tmp_path, runner("a")), Claims(tmp_path, runner("b"))
    assert a.take("x") is not None and a.take("x") is None
    assert b.take("x") is None and b.take("x.1") is not None
    a.give_back("x")
    assert b.take("x") is not None
    a.give_back("x")  # what is another's stays
    assert a.take("x") is None


def test_what_is_not_touched_is_taken_over_once(tmp_path: Path) -> None:
    a, b, c = (Claims(tmp_path, runner(name)) for name in "abc")
    first = a.take("x")
    assert first is not None
    age(tmp_path, 100)
    assert b.take("x") is None
    age(tmp_path, 100)
    second = b.take("x")
    assert second is not None and c.take("x") is None
    second.check()
    with pytest.raises(ClaimLost):  # it slept, and may not write its result
        first.check()
    a.beat()
    a.give_back("x")
    second.check()
    b.give_back("x")
    assert not list(tmp_path.glob("*.claim")) and c.take("x") is not None


def test_touching_keeps_a_claim(tmp_path: Path) -> None:
    a, b = Claims(tmp_path, runner("a")), Claims(tmp_path, runner("b"))
    assert a.take("x") is not None
    age(tmp_path, 1000)
    a.beat()
    assert b.take("x") is None


def test_beats_and_the_end(tmp_path: Path) -> None:
    a, b = Claims(tmp_path, runner("a")), Claims(tmp_path, runner("b"))
    with a.beating(every_s=0.02):
        assert a.take("x") is not None
        assert b.is_alive("x") is None  # not seen for long enough
        deadline = time.monotonic() + 10
        while not b.is_alive("x"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert b.is_alive("x") is False and b.take("x") is not None
    assert {path.suffix for path in tmp_path.iterdir()} <= {".claim", ".clock"}


def test_the_clocks_of_machines_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = Claims(tmp_path, runner("a")), Claims(tmp_path, runner("b"))
    assert a.take("x") is not None
    monkeypatch.setattr(time, "time", lambda: 1e12)
    assert b.take("x") is None


def test_a_process_that_is_gone_is_seen_at_once(tmp_path: Path) -> None:
    here = Runner.this()
    if not here.machine:
        pytest.skip("the system does not show its processes")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        began = module._started(process.pid)
        assert began is not None
        other = Claims(tmp_path, Runner(here.host, here.machine, process.pid, began, "other"))
        assert other.take("x") is not None
        ours = Claims(tmp_path, here)
        assert ours.take("x") is None
        process.kill()
        process.wait()
        assert ours.take("x") is not None
    # Its number belongs to another process by now.
    assert Runner(here.host, here.machine, os.getpid(), here.started + 1, "n").dead
    assert not Runner(here.host, "another machine", 2**22 + 1, 5, "n").dead


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"host": 3}', b"\xff" * 20_000])
def test_a_claim_that_cannot_be_read_is_one_until_it_is_old(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.1.claim").write_bytes(content)
    ours = Claims(tmp_path, runner("a"))
    assert ours.take("x") is None
    age(tmp_path, 1000)
    assert ours.take("x") is not None


_RUNNERS = """
import os, signal, sys
from pathlib import Path
from manyview.batch.claims import Claims, Runner

folder, names = Path(sys.argv[1]), sys.argv[2].split(",")

def run(number):
    claims = Claims(folder / "claims", Runner.this())
    while left := [name for name in names if not (folder / name).exists()]:
        for name in left:
            if claims.take(name) is None:
                continue
            if not (folder / name).exists():
                if number < 4 and len(os.listdir(folder)) > 20 * number:
                    os.kill(os.getpid(), signal.SIGKILL)
                os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL))  # an error if it is done already
                with open(folder / f"{number}.mine", "a") as file:
                    print(name, file=file)
            claims.give_back(name)

def started(numbers):
    reader, writer = os.pipe()
    children = []
    for number in numbers:
        if (child := os.fork()) == 0:
            os.close(writer)
            os.read(reader, 1)  # all at once
            run(number)
            os._exit(0)
        children.append(child)
    os.close(writer)
    return children

def status(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

first = started(range(4))
statuses = [status(first[0])]  # which is killed, so that no machine is too busy for it to be
children = first[1:] + started(range(4, 8))
print(statuses + [status(child) for child in children])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not show processes")
def test_many_processes_do_every_scene_once_though_some_are_killed(tmp_path: Path) -> None:
    (tmp_path / "claims").mkdir()
    command = [sys.executable, "-c", _RUNNERS, str(tmp_path), ",".join(NAMES)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0 and not done.stderr, done.stderr
    statuses = json.loads(done.stdout)
    assert statuses[0] == -9 and set(statuses[1:4]) <= {-9, 0} and statuses[4:] == [0] * 4
    finished = [line for path in tmp_path.glob("*.mine") for line in path.read_text().splitlines()]
    assert sorted(finished) == sorted(NAMES)
    assert not list(tmp_path.glob("claims/*.claim"))
