"""`manyview evaluate DATASET --root DIR`: a protocol of the field on a dataset, dense beside every plan."""

from __future__ import annotations

import dataclasses
import json
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from .console import Bars, say
from .options import ModelChoice, ModelFields

if TYPE_CHECKING:
    from ..evaluate.protocols.frames import Frames
    from ..evaluate.runner.records import Evaluation, SceneRows


@dataclasses.dataclass(frozen=True)
class EvaluateDataset:
    """Measure a model by a protocol of the field on a dataset, several plans in one run, dense always
    among them. A run that was stopped goes on where it was; results of other settings are never mixed in."""

    dataset: tyro.conf.Suppress[str] = "plain"
    root: Path | None = None
    """The folder that the dataset was downloaded to."""
    model: ModelFields = dataclasses.field(default_factory=ModelChoice)
    accel: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--plans"])] = ()
    """Plans beside dense, apart or joined by commas."""
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
    """JSON file with the names of the frames by scene, in place of the protocol's."""
    image_size: int | None = None
    """Longer side of the network's images in pixels; default: what the weights were made for."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Of the trunk; auto: bf16 where the device multiplies it, else fp16 on CUDA, fp32 on CPUs."""
    memory_limit_gib: float | None = None
    """Plan for at most this much memory."""
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
        from ..datasets import dataset_named
        from ..errors import UsageError
        from ..evaluate.protocols.published import PROTOCOLS, protocol_named
        from ..evaluate.references import reference_names
        from ..evaluate.report.evaluation import evaluation_table
        from ..evaluate.report.files import earlier_scenes, file_stem, write_evaluation
        from ..evaluate.runner.image_sets import evaluate_dataset
        from ..evaluate.runner.plan_lists import split_plans
        from ..evaluate.runner.settings import evaluation_settings
        from ..files.writing import check_writable
        from ..reconstruction.run.options import ReconstructOptions

        if self.protocol == "list":
            for one in PROTOCOLS.values():
                say(f"{one.name}: {one.source}; {one.says} [{', '.join(name for name, _ in one.frames)}]")
            return 0
        protocol, dataset = protocol_named(self.protocol), dataset_named(self.dataset)
        if self.root is None:
            raise UsageError(f"say where {dataset.title} is: --root DIR; expected DIR/{dataset.layout}")
        rule, references = self._frames(), reference_names(self.references)
        if rule is None:
            protocol.frames_of(dataset.name)
        options = ReconstructOptions(
            image_size=self.image_size,
            device=self.device,
            precision=self.precision,
            memory_limit_gib=self.memory_limit_gib,
        )
        if self.out is not None:
            check_writable(self.out)
        model = self.model.load()
        settings = evaluation_settings(model, dataset, protocol, rule, options)
        command = shlex.join(["manyview", *sys.argv[1:]])
        out = self.out
        earlier: tuple[SceneRows, ...] = ()
        if out is not None:
            earlier = earlier_scenes(out, file_stem(settings), settings, self.overwrite)
            out.mkdir(parents=True, exist_ok=True)

        def keep(so_far: Evaluation) -> None:
            if out is not None:
                write_evaluation(so_far, out, command)

        with Bars() as bars:
            result = evaluate_dataset(
                model,
                dataset,
                self.root,
                protocol,
                split_plans(self.accel),
                self.scenes,
                rule,
                options,
                earlier,
                self.workers,
                partial(bars, "evaluate"),
                keep,
                references,
                self.reference_cache,
                self.jobs,
            )
        say(evaluation_table(result))
        if out is not None:
            say("written: " + ", ".join(str(path) for path in write_evaluation(result, out, command)))
        return 0

    def _frames(self) -> Frames | dict[str, list[str]] | None:
        from ..errors import InputError, UsageError
        from ..evaluate.protocols.frames import Frames

        if self.views is not None:
            if self.frames is not None or self.views < 1:
                raise UsageError("--views is a positive number and goes without --frames")
            return Frames("spread", most=self.views)
        if self.frames is None:
            return None
        try:
            lists: Any = json.loads(self.frames.read_text(encoding="utf-8"))
            return {str(scene): [str(name) for name in names] for scene, names in lists.items()}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(
                f"{self.frames}: is no list of frames ({error}); expected JSON such as "
                '{"chess/seq-03": ["frame-000000.color.png"]}'
            ) from error
