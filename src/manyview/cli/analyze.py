"""`manyview analyze INPUT`: attention of each global layer, and the effect of removing it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from .console import Bars, command_line, say, say_notes, say_written
from .options import ModelChoice, RunChoice

if TYPE_CHECKING:
    from ..analyze.analysis import Subject
    from ..models.network import Network

SYNTHETIC = "synthetic"


@dataclasses.dataclass(frozen=True)
class Analyze:
    """Analyse global attention by layer: its mass, true matches, sharpness and redundancy, and the effect of
    cutting the layer. INPUT is what `reconstruct` takes, or the word synthetic for held-out procedural
    scenes with exact ground truth."""

    paths: tyro.conf.Positional[tuple[str, ...]]
    """INPUT [INPUT ...]"""
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    how: RunChoice = dataclasses.field(default_factory=RunChoice)
    out: Path | None = None
    """Folder for analysis.json and report.html; default: only the table, on the screen."""
    overwrite: bool = False
    """Replace an earlier analysis in --out."""
    level: Literal["easy", "medium", "hard"] = "easy"
    """Which procedural scenes."""
    views: int = 8
    """Views of each procedural scene; of images at most this many, evenly spread."""
    scenes: int = 4
    """How many procedural scenes."""
    queries: int = 256
    """Patches of each scene sampled as queries."""
    knockouts: tuple[Literal["frame", "mean", "coarse"], ...] = ("frame", "mean", "coarse")
    """What each layer in turn is changed to; none: give an empty list."""
    seed: int = 0
    """Of the sampled patches."""

    def run(self) -> int:
        from ..analyze.analysis import analyse
        from ..analyze.report import FILES, table, write_analysis
        from ..errors import UsageError, require_plot
        from ..files.writing import check_results_folder
        from ..reconstruction.plan.defaults import default_run_options
        from ..reconstruction.plan.machine import pick_device, pick_dtype

        if not self.paths:
            raise UsageError("give an input: manyview analyze PHOTOS, or manyview analyze synthetic")
        if self.views < 2 or self.scenes < 1 or self.queries < 1:
            raise UsageError("an analysis needs at least 2 views, 1 scene and 1 query")
        if self.how.accel not in (None, "dense"):
            raise UsageError("an analysis measures dense attention: leave out --accel")
        if self.out is not None:
            require_plot("the report's plots")
            check_results_folder(self.out, FILES, self.overwrite)
        model = self.model.load()
        with Bars() as bars:
            subjects = self._subjects(model, bars)
            device, how = pick_device(self.how.device), self.how
            dtype = pick_dtype(device, how.precision)
            options = default_run_options(device, dtype, how.kernels, how.head_precision)
            found = analyse(model, subjects, self.knockouts, self.queries, self.seed, bars, options)
        say(table(found))
        if self.out is not None:
            about: dict[str, Any] = {
                "model": model.name,
                "input": " ".join(self.paths),
                "views": [len(subject.images) for subject in subjects],
                "command": command_line(),
            }
            say_written(write_analysis(found, self.out, about))
        return 0

    def _subjects(self, model: Network, bars: Bars) -> list[Subject]:
        from ..analyze.analysis import Subject
        from ..errors import UsageError
        from ..reconstruction.plan.machine import pick_device

        device = pick_device(self.how.device)
        model.to(device)
        if self.paths == (SYNTHETIC,) and not Path(SYNTHETIC).exists():
            from ..evaluate.protocols.procedural import Case

            patch = model.config.patch_size
            side = max(1, (self.how.image_size or model.config.image_size) // patch) * patch
            case = Case(self.level, self.views)
            found = []
            for number in range(self.scenes):
                batch = case.render(number, (side, side))
                found.append(Subject(batch.images[0].to(device), batch))
            return found
        from ..reconstruction.run.prepare import prepare

        options = self.how.options()
        most = min(self.views, options.inputs.max_frames or self.views)
        options = dataclasses.replace(options, inputs=dataclasses.replace(options.inputs, max_frames=most))
        inputs = self.paths[0] if len(self.paths) == 1 else list(self.paths)
        ready = prepare(inputs, model, options, bars)
        say_notes(ready.notes, said=() if model.info is None else model.info.notes)
        if len(ready.views.images) < 2:
            raise UsageError("an analysis needs at least 2 views: it measures attention across frames")
        return [Subject(ready.views.images.to(device))]
