"""Ranks as torchrun starts them, but forked from the test: nothing has to be imported again."""

from __future__ import annotations

import dataclasses
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

LIMIT_S = 60


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a rank ended: its exit status (negative: the signal), and what it wrote."""

    status: int
    said: str
    errors: str


def forked(count: int, act: Callable[[int], int], folder: Path) -> list[Ended]:
    """What becomes of `act(rank)` in processes that have the environment of torchrun's.

    Rank 0 keeps the store, as where PyTorch's launcher keeps none. Files of what they write are in `folder`.
    A rank that takes longer than a minute is killed: its status is -9.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = [_fork(rank, environment(rank, count, port), act, folder) for rank in range(count)]
    until = time.monotonic() + LIMIT_S
    return [_wait(pid, until, *_outputs(folder, rank)) for rank, pid in enumerate(children)]


def environment(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun says to a process."""
    return {
        "RANK": str(rank),
        "WORLD_SIZE": str(count),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCHELASTIC_RUN_ID": "test",
    }


def _outputs(folder: Path, rank: int) -> Sequence[Path]:
    return folder / f"rank-{rank}.out", folder / f"rank-{rank}.err"


def _fork(rank: int, variables: Mapping[str, str], act: Callable[[int], int], folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        for stream, path in zip((1, 2), _outputs(folder, rank), strict=True):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
        sys.stdout, sys.stderr = (open(stream, "w", closefd=False) for stream in (1, 2))  # noqa: SIM115
        os.environ.update(variables)
        status = act(rank)
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _wait(pid: int, until: float, out: Path, err: Path) -> Ended:
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)
    return Ended(os.waitstatus_to_exitcode(status), out.read_text(), err.read_text())
