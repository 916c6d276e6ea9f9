"""`manyview evaluate DATASET --root DIR`: a protocol of the field on a dataset, dense beside every plan."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from .._option_checks import check_options
from .console import Bars, command_line, say, say_written
from .options import MeasureChoice, ModelChoice, StreamChoice

if TYPE_CHECKING:
    from ..evaluate.protocols.frames import Frames
    from ..evaluate.runner.records import Evaluation, SceneRows
    from ..evaluate.runner.streamed import StreamedPlan
    from ..models.network import Network


@dataclasses.dataclass(frozen=True)
class EvaluateDataset:
    """Measure a model by a protocol of the field on a dataset, several plans in one run, dense always
    among them. A run that was stopped goes on where it was; results of other settings are never mixed in."""

    dataset: tyro.conf.Suppress[str] = "plain"
    root: Path | None = None
    """The folder that the dataset was downloaded to."""
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    accel: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--plans"])] = ()
    """Plans beside dense, apart or joined by commas; with --stream each as a stream."""
    stream: bool = False
    """Plans take the frames in order, in chunks, as `manyview stream` does; dense takes them all at once."""
    chunk: tuple[int, ...] = ()
    """Frames of a stream that arrive together, a row each; default: 10."""
    streaming: StreamChoice = dataclasses.field(default_factory=StreamChoice)
    references: tuple[str, ...] = ()
    """Rows beside the plans: identity, mean-step (both image-independent), colmap (needs the extra)."""
    reference_cache: Path | None = None
    """Folder that keeps what COLMAP found, for runs of other models or protocols on the same images."""
    protocol: str = "default"
    """default, or one named after a paper; --protocol list prints them all."""
    scenes: tuple[str, ...] = ()
    """Only these scenes, names or patterns, in place of the protocol's split."""
    views: int | None = None
    """At most this many frames, evenly spread, in place of the protocol's."""
    frames: Path | None = None
    """JSON file with the frames by scene, by name or by number from 0, in place of the protocol's."""
    how: MeasureChoice = dataclasses.field(default_factory=MeasureChoice)
    jobs: int = 1
    """Scenes at a time, each in a process with its share of cores and memory; on CUDA over all cards of a
    kind, or on that of --device. The same figures; seconds are those of scenes that disturb each other."""
    workers: int = -1
    """Threads that search nearest neighbours; -1: all cores, or a job's share of them."""
    out: Path | None = None
    """Folder for DATASET.PROTOCOL.json, .md and .csv, written after each scene."""
    overwrite: bool = False
    """Replace results in --out that were made under other settings."""

    def run(self) -> int:
        from ..evaluate.protocols.published import PROTOCOLS

        check_options(self, at_least={"views": 1})
        if self.protocol == "list":
            for one in PROTOCOLS.values():
                say(f"{one.name}: {one.source}; {one.says} [{', '.join(name for name, _ in one.frames)}]")
            return 0
        self.measured()
        return 0

    def measured(self, model: Network | None = None) -> Evaluation:
        """Run, show and write; `model`: weights that are loaded already."""
        from ..datasets import dataset_named
        from ..errors import UsageError
        from ..evaluate.protocols.published import protocol_named
        from ..evaluate.references import reference_names
        from ..evaluate.report.evaluation import evaluation_table
        from ..evaluate.report.files import earlier_scenes, file_stem, write_evaluation
        from ..evaluate.runner.image_sets import evaluate_dataset
        from ..evaluate.runner.settings import evaluation_settings
        from ..files.writing import check_writable

        protocol, dataset = protocol_named(self.protocol), dataset_named(self.dataset)
        if self.root is None:
            raise UsageError(f"say where {dataset.title} is: --root DIR; expected DIR/{dataset.layout}")
        rule, references = self._frames(), reference_names(self.references)
        self._check_stream()
        if rule is None:
            protocol.frames_of(dataset.name)
        options = self.how.options()
        if self.out is not None:
            check_writable(self.out)
        model = model or self.model.load()
        streams = self._streams(model)
        settings = evaluation_settings(model, dataset, protocol, rule, options)
        write = None
        earlier: tuple[SceneRows, ...] = ()
        if self.out is not None:
            earlier = earlier_scenes(self.out, file_stem(settings), settings, self.overwrite)
            write = partial(write_evaluation, folder=self.out, command=command_line())
        with Bars() as bars:
            result = evaluate_dataset(
                model,
                dataset,
                self.root,
                protocol,
                () if self.stream else split_plans(self.accel),
                self.scenes,
                rule,
                options,
                earlier,
                self.workers,
                partial(bars, "evaluate"),
                write,
                references,
                self.reference_cache,
                self.jobs,
                streams,
            )
        say(evaluation_table(result))
        if write is not None:
            say_written(write(result))
        return result

    def _check_stream(self) -> None:
        """UsageError for options of streams without --stream."""
        from ..errors import UsageError

        given = vars(self.streaming) | {"chunk": self.chunk}
        plain = vars(StreamChoice()) | {"chunk": ()}
        asked = [name for name, value in given.items() if value != plain[name]]
        if asked and not self.stream:
            raise UsageError(f"--{asked[0].replace('_', '-')} belongs to --stream")

    def _streams(self, model: Network) -> tuple[StreamedPlan, ...]:
        from ..evaluate.runner.streamed import streamed_plans
        from ..streaming.stream import DEFAULT_CHUNK

        if not self.stream:
            return ()
        chunks = self.chunk or (DEFAULT_CHUNK,)
        return streamed_plans(
            model, split_plans(self.accel), chunks, self.streaming.engine, self.streaming.given()
        )

    def _frames(self) -> Frames | dict[str, list[str | int]] | None:
        from ..errors import InputError, UsageError
        from ..evaluate.protocols.frames import Frames
        from ..files.schema import read_json

        if self.views is not None:
            if self.frames is not None:
                raise UsageError("--views goes without --frames")
            return Frames("spread", most=self.views)
        if self.frames is None:
            return None
        remedy = 'write JSON such as {"chess/seq-03": ["frame-000000.color.png"]}'
        return read_json(self.frames, dict[str, list[str | int]], remedy=remedy, error=InputError)


def split_plans(texts: Sequence[str]) -> tuple[str, ...]:
    """Plans given one by one or joined by commas, each once.

    A part begins a new plan unless it is an option (stride=2x2) or goes on with a range of layers (4-5:dense
    after 0-3:frame).
    """
    plans: list[str] = []
    for text in texts:
        joined = ""
        for part in text.split(","):
            head = part.strip().partition(":")[0]
            goes_on = "=" in head or (re.match(r"\d", head) and re.match(r"\d", joined))
            if joined and goes_on:
                joined += "," + part.strip()
                continue
            plans += [joined] if joined else []
            joined = part.strip()
        plans += [joined] if joined else []
    return tuple(dict.fromkeys(plans))
