"""`manyview reconstruct` over several ranks: what each of them does, and the process that started them."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..distributed.environment import RankEnvironment
from ..errors import ManyViewError, OutputError, RankError, UsageError
from ..files.lock import LOCK_NAME, sole_writer
from ..files.writing import created_folder
from .console import Bars, fail, log_to_stderr, say, say_notes
from .long_run import check_long_run
from .options import flat_options

if TYPE_CHECKING:
    from ..distributed.ranks import Ranks
    from .reconstruct import Reconstruct, Request

_ALONE = ("receipt", "metric", "sky")  # options that need the whole result, or all images, in one process
_SEEN_S = 30.0  # in which a file of one machine is seen by another


def run_on(command: Reconstruct, devices: Sequence[str]) -> None:
    """A process for each device, and then what is made of the result: refinement and exports."""
    from ..distributed.launch import launch
    from ..reconstruction.result.load import load_reconstruction

    request = _checked(command)
    folder = request.folder
    with created_folder(folder):
        with sole_writer(folder):
            command.earlier_settings(request)
        try:
            debug = logging.getLogger("manyview").isEnabledFor(logging.DEBUG)
            already = launch(_launched, devices, command, debug)[0]
        except BaseException:
            with contextlib.suppress(ManyViewError, OSError), sole_writer(folder):
                pass  # removes what the ranks left half written
            raise
    with sole_writer(folder), Bars() as bars:
        _finish(command, request, already, devices[0], bars, load_reconstruction(folder))


def run_as_rank(command: Reconstruct, place: RankEnvironment) -> int:
    """A process that torchrun started beside others; the first one makes exports when all are done."""
    from ..distributed.join import own_device
    from ..reconstruction.result.load import load_reconstruction

    if command.ranks.devices is not None:
        raise UsageError("torchrun has started a process for each device already: leave out --devices")
    request = _checked(command)
    device = str(own_device(place, command.how.device))
    already = _ended_by_failure(command, place, device)
    if place.rank == 0:
        with sole_writer(request.folder), Bars() as bars:
            _finish(command, request, already, device, bars, load_reconstruction(request.folder))
    return 0


def _launched(place: RankEnvironment, device: str, command: Reconstruct, debug: bool) -> bool:
    """A rank that `run_on` started."""
    from ..reconstruction.plan.allocator import bound_caches

    log_to_stderr(debug)
    bound_caches()
    return _ended_by_failure(command, place, device)


def _ended_by_failure(command: Reconstruct, place: RankEnvironment, device: str) -> bool:
    """`_share`; a failure ends the process at once, since threads of collective operations may still wait."""
    from ..distributed.join import TIMEOUT_S, joined
    from ..distributed.watch import OtherRankError

    try:
        with joined(place, device, command.ranks.rank_timeout or TIMEOUT_S) as ranks:
            return _share(command, place, device, ranks)
    except RankError as error:
        if logging.getLogger("manyview").isEnabledFor(logging.DEBUG):
            traceback.print_exc()
        if place.reports is None and not isinstance(error, OtherRankError):
            fail(str(error), error.exit_code)
        _leave(error.exit_code)


def _leave(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.flush()
    os._exit(status)


def _checked(command: Reconstruct) -> Request:
    for name in _ALONE:
        if getattr(command, name, None) or getattr(command.single_view, name, None):
            raise UsageError(
                f"--{name} needs the whole result in one process: leave out one of it and --devices"
            )
    return command.request()


def _share(command: Reconstruct, place: RankEnvironment, device: str, ranks: Ranks) -> bool:
    """Make the result together with the other ranks; returns whether it was there already."""
    from ..files.writing import require_space
    from ..reconstruction.result.arrays import array_bytes
    from ..reconstruction.run.engine import reconstruct_into
    from ..reconstruction.run.prepare import prepare

    request, first = command.request(), place.rank == 0
    folder = request.folder
    _check_same(ranks, {**flat_options(command), "device": device.split(":")[0]})
    with contextlib.ExitStack() as stack:
        if first:
            stack.enter_context(sole_writer(folder))
            bars = stack.enter_context(Bars())
            earlier = command.earlier_settings(request)
        else:  # one tells what happens
            stack.enter_context(contextlib.redirect_stdout(None))
            logging.getLogger("manyview").setLevel(logging.CRITICAL)
        progress = bars if first else None
        _check_shared(ranks, folder, place)
        model = command.model.load()
        _share_cores(place)
        options = dataclasses.replace(request.options, device=device)
        ready = prepare(request.given, model, options, progress, ranks=ranks)
        say_notes(ready.notes, said=() if model.info is None else model.info.notes)
        already = first and command.earlier_result(request, ready, earlier) is not None
        if ranks.objects(already)[0]:
            return True
        with _no_terminal():
            check_long_run(ready, model, command.yes)
        if first:
            everything = (ready.own_settings["views"], *ready.views.images.shape[1:])
            require_space(folder, array_bytes(everything, ready.chosen.request.heads))
        scene = reconstruct_into(ready, model, folder, command.overwrite, progress, ranks=ranks)
        if scene is not None:
            for note in scene.notes[len(ready.notes) :]:
                say(note)
    return False


def _finish(
    command: Reconstruct, request: Request, already: bool, device: str, bars: Bars, scene: Any
) -> None:
    """What one process does with the result of all ranks."""
    if already:
        command.completed(scene, request, bars)
    else:
        command.say_end(command.exported(scene, request, bars), device.split(":")[0])


def _check_same(ranks: Ranks, values: dict[str, Any]) -> None:
    """UsageError where ranks were started with different options."""
    of_all = ranks.objects(values)
    for rank, other in enumerate(of_all):
        for name in sorted(of_all[0].keys() | other.keys()):
            ours, theirs = of_all[0].get(name), other.get(name)
            if ours != theirs:
                flag = "the paths" if name == "paths" else "--" + name.replace("_", "-")
                raise UsageError(
                    f"all ranks share one scene, but {flag} is {theirs} on rank {rank} and {ours} on rank 0; "
                    "start all with the same command line, and use manyview batch for separate scenes"
                )


def _check_shared(ranks: Ranks, folder: Path, place: RankEnvironment) -> None:
    """OutputError where the ranks of other machines do not see the folder that rank 0 writes to."""
    lock = folder / LOCK_NAME
    wanted = ranks.objects(lock.read_bytes() if place.rank == 0 else b"")[0]
    until = time.monotonic() + _SEEN_S
    while not (lock.exists() and lock.read_bytes() == wanted):
        if time.monotonic() > until:
            raise OutputError(
                f"{folder}: is not the same folder for all ranks; choose one on a shared file system"
            )
        time.sleep(0.2)


def _share_cores(place: RankEnvironment) -> None:
    """Take this rank's part of the machine's cores."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":  # which is what torchrun sets
        torch.set_num_threads(max(1, cores // place.local_world_size))


@contextlib.contextmanager
def _no_terminal() -> Any:
    """Nothing is asked: several ranks may have the terminal."""
    before, sys.stdin = sys.stdin, None  # type: ignore[assignment]
    try:
        yield
    finally:
        sys.stdin = before
