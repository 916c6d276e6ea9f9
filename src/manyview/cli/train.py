"""`manyview train base`: train a model of any size on procedural scenes."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from .._option_checks import check_options
from ..errors import OutputError, UsageError
from .console import Bars, say

if TYPE_CHECKING:
    from ..train.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a VGGT on procedural scenes, from scratch or from weights; a run can be stopped and resumed."""

    what: tyro.conf.Positional[Literal["base", "elastic", "flash"]]
    """base: cameras, depth and points from images. elastic: continue from --init so that one set of weights
    serves every plan. flash: continue from --init with descriptors in place of all keys."""
    out: Path
    """Folder of the run: log, curves, state. A run in it is resumed."""
    config: str | None = None
    """Name of a bundled recipe, or a JSON file; default: small, elastic or flash."""
    init: str | None = None
    """Initial weights, a name or a file; the recipe maps their layers."""
    data: tuple[Path, ...] = ()
    """Folders of posed RGB-D sequences (7-Scenes, TUM RGB-D, ScanNet, ...) beside the rendered scenes."""
    data_share: float = 0.5
    """Share of scenes from --data or --photos; of both, --data has this share of what --photos leaves."""
    photos: tuple[Path, ...] = ()
    """Folders of photographs that `python -m tools.training.photographs` of a checkout has prepared: views
    that see the same places, mirrored at random."""
    textures: Path | None = None
    """Folder of pictures for the surfaces of rendered scenes, where the recipe has a picture_share."""
    processes: int = 1
    """Single-threaded processes on a CPU; one a core."""
    minutes: float | None = None
    """Stop after this time and keep the state; the next call continues the schedule."""
    budget_minutes: float | None = None
    """Length of the whole schedule, instead of the recipe's."""
    shard: bool = False
    """Shard weights and optimiser state over the processes (FSDP), and divide each step's draws."""
    device: str = "cpu"
    """cpu, or cuda for one GPU in bf16."""
    fresh: bool = False
    """Do not resume a run in OUT."""
    weights: Path | None = None
    """Only write the weights of the run in OUT, with held-out numbers, to this .safetensors file."""
    image_size: int | None = None
    """Longer side in pixels that --weights resize images to, whole patches; default: the recipe's."""
    base_weights: str | None = None
    """Leave tensors out of --weights that these weights have too, a name or a file in the same folder:
    loading takes them from there."""
    overwrite: bool = False
    """Replace the file of --weights."""
    scenes: int = 48
    """Held-out scenes a table of --weights; 0: none."""
    more_views: bool = True
    """Also measure 2 to 150 views for --weights."""
    docs: tuple[Path, ...] = ()
    """Gone: use `python -m tools.results.model_card` of a checkout on the file of --weights."""

    def run(self) -> int:
        import torch

        from ..errors import ManyViewError, require_plot
        from ..files.writing import check_new_file
        from ..reconstruction.plan.machine import pick_device
        from ..train.config import load_config
        from ..train.held_out import release_numbers
        from ..train.log import LOG_NAME, plot_curves
        from ..train.loop import run, with_minutes
        from ..train.sources import with_pictures, with_posed_data
        from ..train.weights import base_weights, export_weights, run_config, trained_model

        check_options(self, at_least={"processes": 1, "scenes": 0}, above={"minutes": 0, "budget_minutes": 0})
        if self.docs:
            raise UsageError(
                f"--docs {self.docs[0]}: this option is gone; write the tables of a page with "
                "`python -m tools.results.model_card FILE.safetensors PAGE ...` in a checkout"
            )
        for name, value in (("--base-weights", self.base_weights), ("--image-size", self.image_size)):
            if value is not None and self.weights is None:
                raise UsageError(f"{name} is about the file of --weights: give --weights too")
        if self.weights is not None:
            check_new_file(self.weights, self.overwrite)
            if self.base_weights is not None:
                base_weights(self.base_weights, self.weights)  # refused before the long work
            model = trained_model(self.out, half=True, image_size=self.image_size)
            plan = run_config(self.out).trained_for or "dense"
            numbers = {}
            if self.scenes:
                numbers = release_numbers(model, self.scenes, more_views=self.more_views, plan=plan)
            metadata = export_weights(self.out, self.weights, numbers, self.base_weights, self.image_size)
            rest = f", the rest in {metadata['base']['weights']}" if "base" in metadata else ""
            say(f"weights: {self.weights}{rest}")
            return 0
        require_plot()
        config = load_config(self.config or {"base": "small"}.get(self.what, self.what))
        if self.init is not None:
            config = dataclasses.replace(config, init=self.init)
        if self.what != "base":
            config = of_initial_weights(config)
        if self.data:
            config = with_posed_data(config, self.data, self.data_share)
        if self.photos:
            config = with_posed_data(config, self.photos, self.data_share, photographs=True)
        if self.textures is not None:
            config = with_pictures(config, self.textures)
        if self.shard:
            count = max(self.processes, int(os.environ.get("WORLD_SIZE", 1)))
            config = dataclasses.replace(config, shard=True, step_batches=config.step_batches or count)
        device = str(pick_device(self.device))
        if self.budget_minutes is not None:
            config = with_minutes(config, self.budget_minutes)
        if device == "cpu":
            torch.set_num_threads(1)
        if int(os.environ.get("RANK", 0)) > 0:  # one of torchrun's processes prints
            with disk_errors(self.out):
                run(config, self.out, self.processes, self.minutes, not self.fresh, device=device)
            return 0
        processes = max(self.processes, int(os.environ.get("WORLD_SIZE", 1)))
        with disk_errors(self.out), Bars() as bars, following(self.out / LOG_NAME, bars):
            end = run(config, self.out, self.processes, self.minutes, not self.fresh, device=device)
        say(f"{end['progress']:.0%} of the schedule, {end['scenes']:,} scenes")
        say(throughput(self.out / LOG_NAME, processes, device, config.cpu_bf16))
        try:
            plot_curves(self.out / LOG_NAME, self.out / "curves.png")
        except ManyViewError as error:  # the run itself is complete and saved
            say(f"no plot of the curves: {error}")
        else:
            say(f"curves: {self.out / 'curves.png'}")
        return 0


def of_initial_weights(config: TrainConfig) -> TrainConfig:
    """The recipe for the network of the initial weights, whatever its size."""
    from ..train.grow import load_trainable

    if config.init is None:
        raise UsageError("this training goes on from weights: give them with --init")
    return dataclasses.replace(config, model=load_trainable(config.init).config, init_layers=())


def throughput(log: Path, processes: int, device: str, half: bool) -> str:
    """Images and operations a second of the run's newest part, beside the matrix rate of one process here."""
    import torch

    from ..reconstruction.plan.machine import measure_flops, multiplies_bf16
    from ..train.log import read_log

    lines = [line for line in read_log(log) if line["kind"] == "train" and line.get("gflops")][-50:]
    if not lines:
        return "no step was timed"
    mean = {name: sum(line[name] for line in lines) / len(lines) for name in ("frames_per_s", "gflops")}
    multiplies = multiplies_bf16(torch.device(device))
    dtype = torch.bfloat16 if device != "cpu" or (half and multiplies) else torch.float32
    peak = processes * measure_flops(torch.device(device), dtype) / 1e9
    kind = str(dtype).removeprefix("torch.")
    return (
        f"{mean['frames_per_s']:.1f} images/s, {mean['gflops']:.0f} GFLOP/s, "
        f"{mean['gflops'] / peak:.0%} of the {peak:.0f} that matrix products in {kind} reach here"
    )


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """A failure to write in `folder` as one sentence; the state that was saved last stays good."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{error.filename or folder}: {error.strerror or error}; the state saved last is kept, "
            "make room and resume"
        ) from error


@contextlib.contextmanager
def following(log: Path, bars: Bars, every_s: float = 2.0) -> Iterator[None]:
    """Show how far the run that writes `log` has come, whatever processes it runs in."""
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every_s):
            progress = last_progress(log)
            if progress is not None:
                bars("train", round(1000 * progress), 1000)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        stop.set()
        watcher.join()


def last_progress(log: Path) -> float | None:
    """Share of the schedule in the last whole line of a training log that states one."""
    with contextlib.suppress(OSError):
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 20_000))
            lines = file.read().splitlines()
        for line in reversed(lines):
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(line)
                found = entry.get("progress") if isinstance(entry, dict) else None
                if isinstance(found, int | float):
                    return float(found)
    return None
