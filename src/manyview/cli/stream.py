"""`manyview stream INPUT OUT`: frames in order, in chunks, with earlier frames in memory."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from .console import Bars, quality_line, say, say_notes, say_warnings
from .export import ExportNames, chosen_formats, export_all
from .options import ModelChoice, StreamChoice, check_apart

if TYPE_CHECKING:
    from ..models.network import Network
    from ..streaming.engine import StreamEngine
    from ..streaming.frames import Frame, FrameSource
    from ..streaming.journal import StreamJournal

JOURNAL = "stream"
_NEXT = "--resume goes on with the same options, --overwrite starts anew"


@dataclasses.dataclass(frozen=True)
class FrameFields:
    """Which frames, and how large."""

    size_policy: Literal["fit", "crop", "pad", "square"] = "fit"
    """fit keeps whole images; pad pads images of mixed shapes to one size."""
    image_size: int | None = None
    """Longer side of the network's images in pixels; default: what the weights were made for."""
    fps: float | None = None
    """Video: frames a second to use; default: every frame."""
    stride: int | None = None
    """Use every n-th image or frame."""
    max_frames: int | None = None
    """Use at most this many, evenly spread."""
    start_s: float | None = None
    """Video: first second to use."""
    end_s: float | None = None
    """Video: last second to use."""
    follow_s: float | None = None
    """Folder: wait for new images until none has arrived for so many seconds."""
    strict: bool = False
    """Fail on damaged images instead of skipping them."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """Frames of a video or a folder, in order and in chunks: memory and time per frame stay bounded.

    INPUT is a video, a folder, a glob or a list; OUT a new folder. Results are written chunk by chunk to
    OUT/stream; at the end OUT holds what `manyview reconstruct` writes.
    """

    paths: tyro.conf.Positional[tuple[str, ...]]
    """INPUT OUT"""
    accel: str | None = None
    """chunks: flash, flash:r=2, flash:version=v2, ...; anchors: anchors:frames=16, ..."""
    chunk: int = 10
    """Frames that arrive together."""
    resume: bool = False
    """Resume an earlier run with the same options."""
    overwrite: bool = False
    """Replace an earlier result of ManyView in OUT; other files are never touched."""
    state_every: int = 1
    """Chunks after which the engine's memory is written: what a killed run loses at most."""
    keep_chunks: bool = False
    """Keep the results of chunks when the whole is written."""
    to: ExportNames = ("ply",)
    masks: Path | None = None
    """Folder of masks called like the images (or frame_000123.png); they hide pixels of the result."""
    plot: bool = False
    """Draw milliseconds and bytes against frames to OUT/stream/stream.png."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Of the trunk; auto: bf16 where the device multiplies it, else fp16 on CUDA, fp32 on CPUs."""
    kernels: Literal["auto", "plain", "norms", "triton"] = "auto"
    """norms: fused norms, sums and rotations; triton: token merging too; auto: norms on CUDA where Triton
    compiles them, else plain. No card has run them yet."""
    head_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Of dense heads' convolutions; auto: bf16 on CUDA where the trunk has 16 bits, else the weights'."""
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    frames: FrameFields = dataclasses.field(default_factory=FrameFields)
    how: StreamChoice = dataclasses.field(default_factory=StreamChoice)

    def run(self) -> int:
        from ..errors import UsageError, require_plot
        from ..files.lock import sole_writer
        from ..files.paths import user_path
        from ..files.transaction import output_path
        from ..files.writing import atomic_file
        from ..reconstruction.inputs.view_masks import check_masks
        from ..streaming.chart import draw
        from ..streaming.finish import timing_summary, write_result
        from ..streaming.frames import read_ahead
        from ..streaming.journal import STATE_NAME, StreamJournal, damaged_input_errors

        if len(self.paths) != 2:
            raise UsageError("give one input and an output folder: manyview stream VIDEO OUT")
        if self.chunk < 1 or self.state_every < 1:
            raise UsageError("--chunk and --state-every are at least 1")
        formats = chosen_formats(self.to)
        check_masks(self.masks)
        if self.plot:
            require_plot()
        folder = user_path(self.paths[1])
        check_apart(self.paths[:1], folder)
        with sole_writer(folder), Bars() as bars:
            going_on = self.resume and StreamJournal.is_one(folder / JOURNAL)
            if not going_on:
                self._check_new(folder)
            network = self.model.load()
            engine, settings = self._engine(network)
            journal = StreamJournal(folder / JOURNAL, settings, self.state_every)
            if going_on:
                state = journal.resume()
                if journal.finished:
                    say(f"{folder} already holds this stream, whole")
                    return 0
                if state is not None:
                    with damaged_input_errors(journal.folder / STATE_NAME):
                        engine.restore(state)
                    say(f"going on after {engine.frames} frames")
            source = self._source(network, journal)
            if going_on:
                source.check_unchanged(journal.sources(), partial(bars, "checking"))
            else:
                journal.start()
            frames = iter(source)
            if next(network.parameters()).device.type != "cpu" and source.total is not None:
                frames = read_ahead(frames, 2 * self.chunk)
            self._push_all(frames, source, engine, journal, bars)
            revised = engine.cameras() if self.how.cameras == "revised" else None
            notes = tuple(source.warnings)
            scene = write_result(
                journal, folder, revised, notes, network.info, self.masks, self.frames.strict
            )
            export_all(scene, folder, formats, bars)
            journal.finish(self.keep_chunks)
            if self.plot:
                plot = output_path(journal.folder, "stream.png")
                with atomic_file(plot) as part:
                    draw(journal.log(), part)
                say(f"plot: {plot}")
        say_notes(scene.notes, said=() if network.info is None else network.info.notes)
        if scene.quality is not None:
            say(quality_line(scene.quality))
        for line in timing_summary(journal.log()):
            say(line)
        say(f"{len(scene)} frames in chunks of {self.chunk}; written to {folder}")
        say_warnings(scene.warnings)
        return 0

    def _check_new(self, folder: Path) -> None:
        from ..errors import OutputError
        from ..files.transaction import recover
        from ..reconstruction.result.save import check_output_folder
        from ..streaming.journal import StreamJournal

        if not self.overwrite and StreamJournal.is_one(folder / JOURNAL):
            raise OutputError(f"{folder}: holds a stream; {_NEXT}")
        if (folder / JOURNAL).is_dir():
            recover(folder / JOURNAL)
            with contextlib.suppress(OSError):  # empty where an earlier run was killed as it made it
                (folder / JOURNAL).rmdir()
        check_output_folder(folder, self.overwrite)

    def _engine(self, network: Network) -> tuple[StreamEngine, dict[str, Any]]:
        """The engine, and everything that decides the numbers of the result."""
        from .._version import __version__
        from ..errors import UsageError
        from ..reconstruction.plan.defaults import default_run_options
        from ..reconstruction.plan.machine import pick_device, pick_dtype, precision_name
        from ..streaming.stream import engine_options, make_engine, suited_engine

        device = pick_device(self.device)
        dtype = pick_dtype(device, self.precision)
        run = default_run_options(device, dtype, self.kernels, self.head_precision)
        name, why = suited_engine(network) if self.how.engine == "auto" else (self.how.engine, None)
        if why is not None:
            say(why)
        options = self.how.given() | ({} if self.accel is None else {"accel": self.accel})
        if options.get("revise") and name != "chunks":
            raise UsageError("--cameras revised needs --engine chunks")
        chosen = dataclasses.asdict(engine_options(name, network, options))
        engine = make_engine(name, network.to(device), run, chosen)
        info = network.info
        settings = {
            "manyview": __version__,
            "model": "unnamed" if info is None else info.name,
            "weights_sha256": None if info is None else info.weights_sha256,
            "weights_licence": None if info is None else info.licence,
            "precision": precision_name(dtype),
            "accel": chosen["accel"],
            "engine": name,
            "engine_options": chosen,
            "chunk": self.chunk,
            "cameras": self.how.cameras,
            "input": str(self.paths[0]),
            "frames": dataclasses.asdict(dataclasses.replace(self.frames, follow_s=None)),
        }
        if run.kernels != "plain":
            settings["kernels"] = run.kernels
        if run.head_dtype is not None:
            settings["head_precision"] = precision_name(run.head_dtype)
        if self.masks is not None:
            settings["masks"] = str(self.masks)
        return engine, settings

    def _source(self, network: Network, journal: StreamJournal) -> FrameSource:
        from ..reconstruction.inputs.network_image import Sizing
        from ..reconstruction.inputs.options import InputOptions
        from ..streaming.frames import FrameSource

        wanted = self.frames
        names = ("fps", "stride", "max_frames", "start_s", "end_s")
        config = network.config
        return FrameSource(
            self.paths[0],
            Sizing(wanted.size_policy, wanted.image_size or config.image_size, config.patch_size),
            InputOptions(**{name: getattr(wanted, name) for name in names}),
            after=journal.last,
            canvas=journal.canvas,
            follow_s=wanted.follow_s,
            strict=wanted.strict,
        )

    def _push_all(
        self,
        frames: Iterator[Frame],
        source: FrameSource,
        engine: StreamEngine,
        journal: StreamJournal,
        bars: Bars,
    ) -> None:
        import torch

        from ..errors import InputError, ManyViewError

        pushed = False
        try:
            while batch := list(itertools.islice(frames, self.chunk)):
                update = engine.push(torch.stack([frame.image for frame in batch]))
                journal.add(update, batch, engine.state)
                pushed = True
                source.warnings += update.notes
                bars("frames", engine.frames, source.total or engine.frames)
        except ManyViewError as error:
            if not journal.chunks:
                journal.discard()
            else:
                error.args = (f"{error}; {journal.folder} keeps what was done: {_NEXT}",)
            raise
        except KeyboardInterrupt:
            say(f"stopped after {engine.frames} frames; the same command with --resume goes on")
            raise
        if pushed and journal.chunks % self.state_every:
            journal.save_state(engine.state())
        if not engine.frames:
            journal.discard()
            raise InputError(f"'{self.paths[0]}' has no usable frame")
