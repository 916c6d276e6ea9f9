"""Processes on this machine that share a scene, started by PyTorch's elastic launcher."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import RankError, UsageError
from .environment import RankEnvironment
from .watch import first_report

_START_METHOD = "spawn"
_CATCHES = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")  # what the elastic launcher handles


def devices_of(text: str) -> tuple[str, ...]:
    """The devices that an option names: "all", "0,1,2,3" (cards) or "cpu,cpu".

    Raises UsageError for what is no device here, for a card that is named twice, and for a mixture.
    """
    import torch

    cards = torch.cuda.device_count()  # asks the driver, and takes no memory of a card
    names = [part.strip().lower() for part in text.split(",")]
    if names == ["all"]:
        names = [str(card) for card in range(cards)]
        if not names:
            raise UsageError(
                "--devices all: there is no CUDA device here; cpu,cpu makes two ranks on the CPU"
            )
    numbers = [name.removeprefix("cuda:") for name in names]
    if set(names) != {"cpu"} and not all(number.isdecimal() for number in numbers):
        raise UsageError(f"--devices {text[:40]}: expected all, cards such as 0,1,2,3, or cpu,cpu")
    if names[0] == "cpu":
        return tuple(names)
    for number in numbers:
        if int(number) >= cards:
            raise UsageError(
                f"--devices {text[:40]}: there is no cuda:{number} here, CUDA devices: {cards}; "
                "cpu,cpu is two ranks of the CPU"
            )
    if len(set(map(int, numbers))) < len(numbers):
        raise UsageError(f"--devices {text[:40]} names a card twice; each rank takes one of its own")
    return tuple(f"cuda:{int(number)}" for number in numbers)


def launch(work: Callable[..., Any], devices: Sequence[str], *arguments: Any) -> list[Any]:
    """What `work(place, device, *arguments)` returns on each rank, a process for each device.

    `work` and what it takes and returns can be pickled. It calls `joined`; a rank that ends for another
    reason than an error within that ends all others too. Children do not outlive this process.

    Raises:
        RankError: A rank failed; the message names it and says why.
        KeyboardInterrupt: Ctrl-C.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    with tempfile.TemporaryDirectory(prefix="manyview-", ignore_cleanup_errors=True) as folder:
        reports = Path(folder) / "reports"
        reports.mkdir()
        with _environment(), _own_signals(), _silent_logs():
            config = LaunchConfig(
                min_nodes=1,
                max_nodes=1,
                nproc_per_node=len(devices),
                run_id=uuid.uuid4().hex,
                rdzv_backend="c10d",
                rdzv_endpoint="localhost:0",
                local_addr="127.0.0.1",
                max_restarts=0,
                monitor_interval=0.1,
                start_method=_START_METHOD,
                logs_specs=DefaultLogsSpecs(log_dir=folder),
            )
            try:
                found = elastic_launch(config, _rank)(work, tuple(devices), reports, arguments)
            except ChildFailedError as error:
                rank, failure = error.get_first_failure()
                if failure.exitcode == -signal.SIGINT:
                    raise KeyboardInterrupt from None
                raise _worded(rank, failure.exitcode, devices, reports) from None
            except SignalException as stop:
                ended_by = stop.sigval
            else:
                return [found[rank] for rank in range(len(devices))]
    if ended_by != signal.SIGINT:
        os.kill(os.getpid(), ended_by)  # as without a launcher in between
    raise KeyboardInterrupt


def _rank(work: Callable[..., Any], devices: Sequence[str], reports: Path, arguments: Sequence[Any]) -> Any:
    """A rank, from its first moment on."""
    for name in ("SIGTERM", "SIGINT"):  # they end it inside an operation too, and when the parent is gone
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    place = RankEnvironment.find(reports=reports)
    assert place is not None
    return work(place, devices[place.local_rank], *arguments)


def _worded(rank: int, exit_code: int, devices: Sequence[str], reports: Path) -> RankError:
    """Why a launch failed: what the first rank to fail said, or how the first to end did."""
    said = first_report(reports)
    if said is not None:
        return RankError(said.sentence, said.exit_code)
    name = f"rank {rank} of {len(devices)} ({devices[rank]})"
    if exit_code == -9:
        return RankError(
            f"{name} was killed (SIGKILL), mostly by the system because memory ran out; use more ranks, "
            "smaller images (--image-size) or fewer views (--max-frames)"
        )
    how = f"status {exit_code}" if exit_code >= 0 else _signal_name(-exit_code)
    return RankError(f"{name} ended by {how} before it could say why; run again with --debug for details")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    """Variables for the processes that are started; those of this one are as before afterwards."""
    before = dict(os.environ)
    if sys.platform.startswith("linux"):  # gloo looks up the host's name otherwise, which may not resolve
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """The launcher handles signals; afterwards they are handled as before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in _CATCHES if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)


@contextlib.contextmanager
def _silent_logs() -> Iterator[None]:
    """What the launcher logs of failures is said in one sentence instead."""
    loggers = [logging.getLogger(f"torch.{name}") for name in ("distributed", "multiprocessing")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
