"""A training run: steps, synchronisation, checkpoints and held-out evaluation."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as multiprocessing

from ..errors import OutputError, UsageError
from ..files.lock import sole_writer
from ..files.transaction import output_path
from ..files.writing import entries
from .allocator import keep_freed_memory
from .config import TrainConfig, config_from_json
from .held_out import held_out_numbers
from .log import LOG_NAME, RunLog
from .sources import check_sources
from .state import POINTER_NAME, has_state, load_state, remove_old_states, save_state
from .trainer import Trainer
from .workers import Workers

logger = logging.getLogger(__name__)


def run(
    config: TrainConfig,
    out_dir: str | Path,
    processes: int = 1,
    minutes: float | None = None,
    resume: bool = True,
    steps: int | None = None,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train until the config's schedule ends. Ctrl-C or SIGTERM stops after the next synchronisation.

    Args:
        config: the run.
        out_dir: receives `log.jsonl`, `latest.json` and the state. It must be empty, absent, or hold a run of
            the same config, which is resumed.
        processes: number of single-threaded processes on a CPU; under `torchrun` its processes are used.
        minutes: stop after this much of the schedule.
        steps: stop after so many steps.
        resume: whether a run in `out_dir` may be resumed.
        device: "cpu", or "cuda" for one GPU per process.

    Returns:
        The header of the last state: step, progress (0 to 1), seconds, scenes, frames.

    Raises:
        UsageError: a config, an option or a folder of data that is not allowed.
        OutputError: a folder that holds something else, or a run while `resume` is false.
    """
    out = Path(out_dir)
    if processes < 1:
        raise UsageError(f"processes must be at least 1, not {processes}")
    if processes > 1 and device != "cpu":
        raise UsageError(f"{processes} processes train on a CPU only: use one process on {device}")
    check_sources(config)
    # Of several processes that torchrun starts, the first writes.
    writes = "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ["RANK"]) == 0
    with sole_writer(out) if writes else contextlib.nullcontext():
        if writes:
            _check_folder(out, resume)
        limits = (minutes, steps)
        if processes == 1:
            workers = Workers.of_torchrun(config.shard and device.startswith("cuda"))
            try:
                return _work(workers, config, out, limits, workers.own_device(device))
            finally:
                workers.close()
        with tempfile.TemporaryDirectory() as folder:
            arguments = (processes, f"{folder}/store", config.to_json(), str(out), limits)
            _watch(multiprocessing.start_processes(
                _process, arguments, nprocs=processes, join=False, daemon=True, start_method="spawn"
            ))  # fmt: skip
        return dict(load_state(out).header)


def _check_folder(out: Path, resume: bool) -> None:
    """Raise OutputError for a folder of something else, or for a run where none may be resumed."""
    for name in (LOG_NAME, POINTER_NAME):
        output_path(out, name)  # no link leads elsewhere
    if has_state(out):
        if not resume:
            raise OutputError(f"{out} already holds a training run: resume it or choose another folder")
        remove_old_states(out)
        return
    foreign = [name for name in entries(out) if name != LOG_NAME and not name.startswith("state-")]
    if foreign:
        raise OutputError(f"{out} holds {foreign[0]}, no training run: choose another folder")


def _watch(context: Any) -> None:
    """Wait for the processes; forward a request to stop once."""
    with _stop_requests() as stop_requested:
        passed_on = False
        while not context.join(timeout=0.5):
            if stop_requested() and not passed_on:
                passed_on = True
                for process in context.processes:
                    process.terminate()


def _process(
    rank: int,
    size: int,
    store: str,
    config: dict[str, Any],
    out: str,
    limits: tuple[float | None, int | None],
) -> None:
    torch.set_num_threads(1)
    workers = Workers(rank, size, store)
    try:
        _work(workers, config_from_json(config), Path(out), limits, "cpu")
    finally:
        workers.close()


def _work(
    workers: Workers,
    config: TrainConfig,
    out: Path,
    limits: tuple[float | None, int | None],
    device: str,
    clock: Callable[[], float] | None = None,
) -> dict[str, Any]:
    keep_freed_memory()
    clock = clock or (time.process_time if config.processor_time else time.monotonic)
    with _stop_requests() as stop_requested:
        trainer = Trainer(config, workers, device)
        if has_state(out):
            trainer.restore(load_state(out))
        else:
            trainer.start_from_data()
        log = RunLog(out / LOG_NAME if workers.rank == 0 else None)
        log.write("start", {"config": config.to_json(), "processes": workers.size, "step": trainer.step,
                            "progress": trainer.progress, "torch": torch.__version__})  # fmt: skip
        # All processes use the first one's clock, so that they decide alike.
        (started,) = workers.from_first([clock()])
        first_step = trainer.step
        saved = evaluated = started
        last = started
        while not trainer.done:
            interval = _interval(trainer)
            trainer.synchronise()
            (now,) = workers.from_first([clock()])
            trainer.seconds += now - last
            if config.minutes is not None:
                trainer.progress = min(1.0, trainer.progress + (now - last) / (60 * config.minutes))
            _log_interval(trainer, log, interval, now - last)
            last = now
            over = limits[0] is not None and now - started >= 60 * limits[0]
            over = over or (limits[1] is not None and trainer.step - first_step >= limits[1])
            stop = workers.any(over or stop_requested() or trainer.done)
            if stop or now - saved >= 60 * config.checkpoint_minutes:
                saved = now
                if workers.rank == 0 or trainer.sharded:
                    state = trainer.state()
                if workers.rank == 0:
                    save_state(out, state, trainer.step)
            if stop or now - evaluated >= 60 * config.evaluate_minutes:
                evaluated = now
                if workers.rank == 0 or trainer.sharded:
                    log.write("evaluate", _held_out(trainer))
            if stop:
                break
        end = {"step": trainer.step, "progress": trainer.progress, "minutes": trainer.seconds / 60}
        log.write("end", end)
        return trainer.header()


def _interval(trainer: Trainer) -> list[dict[str, float]]:
    """Steps up to the next synchronisation, or to the end of the schedule."""
    steps = [trainer.train_step()]
    while trainer.step % trainer.config.sync_every and not trainer.done:
        steps.append(trainer.train_step())
    return steps


def _log_interval(trainer: Trainer, log: RunLog, steps: list[dict[str, float]], seconds: float) -> None:
    """One line with the mean of each value over the steps of the interval that have it."""
    names = {name for step in steps for name in step}
    mean = {}
    for name in sorted(names):
        values = [step[name] for step in steps if name in step]
        mean[name] = sum(values) / len(values)
    rate, norm = mean.pop("lr"), mean.pop("grad_norm")
    here = trainer.here
    line = {
        "step": trainer.step,
        "minutes": trainer.seconds / 60,
        "progress": trainer.progress,
        "stage": here.stage.name,
        "scenes": trainer.scenes,
        "frames": trainer.frames,
        "frames_per_s": (trainer.frames - trainer.logged_frames) / max(seconds, 1e-9),
        "gflops": trainer.flops / max(seconds, 1e-9) / 1e9,
        "lr": rate,
        "grad_norm": norm,
        "losses": mean,
    }
    trainer.logged_frames, trainer.flops = trainer.frames, 0.0
    log.write("train", line)


def _held_out(trainer: Trainer) -> dict[str, Any]:
    with trainer.mean.in_place():
        numbers = held_out_numbers(trainer.model, trainer.config, trainer.here)
    log = logger.info if trainer.workers.rank == 0 else logger.debug
    log(
        "step %d, %s: AUC@30 %.1f, rotation %.1f deg, direction %.1f deg, AbsRel %.3f",
        trainer.step,
        numbers["stage"],
        *(numbers[k] for k in ("auc_30", "rotation_median_deg", "translation_median_deg", "abs_rel")),
    )
    return {"step": trainer.step, "minutes": trainer.seconds / 60, "scenes": trainer.scenes, **numbers}


@contextlib.contextmanager
def _stop_requests() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM; yields a function that returns whether one arrived."""
    received = []
    try:
        before = {
            s: signal.signal(s, lambda *_: received.append(True)) for s in (signal.SIGINT, signal.SIGTERM)
        }
    except ValueError:  # not the main thread: signals go elsewhere
        before = {}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def with_minutes(config: TrainConfig, minutes: float) -> TrainConfig:
    """The same run with another total time."""
    return replace(config, minutes=minutes, steps=None)
