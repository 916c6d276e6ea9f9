"""`manyview evaluate posed DIR...`: accuracy on real images with known cameras."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import tyro

from .console import Bars, command_line, say, say_written
from .options import ModelChoice, SizedChoice


@dataclasses.dataclass(frozen=True)
class EvaluatePosed:
    """Cameras, and depth where there is any, against measured truth, plans side by side and beside
    image-independent baselines. Known formats: poses.txt beside images, 7-Scenes, KITTI odometry, TUM RGB-D,
    Strecha's .camera files."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of images with cameras, one table each."""
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    views: int = 24
    """At most this many views of each folder, evenly spread."""
    accel: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--plans"])] = ("dense", "frame")
    """Plans of global attention: one row each."""
    references: tuple[str, ...] = ("identity", "mean-step")
    """Rows beside the plans: identity, mean-step (both image-independent), colmap (an extra), or none."""
    reference_cache: Path | None = None
    """Folder that keeps what COLMAP found, for runs of other models on the same images."""
    refine: Literal["none", "cameras", "depth"] = "none"
    """A second row of every plan: its result refined from the original images (--refine alone), and its depth
    measured (--refine depth)."""
    how: SizedChoice = dataclasses.field(default_factory=SizedChoice)
    seed: int = 0
    """Of the random camera centres of the baseline identity."""
    out: Path | None = None
    """Folder for results.json and table.md, written after each folder of images."""
    overwrite: bool = False
    """Replace earlier results in --out."""

    def run(self) -> int:
        from ..errors import UsageError
        from ..evaluate.references import reference_names
        from ..evaluate.report.benchmark import FILES
        from ..evaluate.report.posed import posed_table, write_posed
        from ..evaluate.runner.image_sets import evaluate_posed
        from ..files.writing import check_results_folder
        from ..refine import RefineOptions
        from ..refine.stereo import StereoOptions

        if not self.folders:
            raise UsageError("give a folder of images with cameras: manyview evaluate posed DIR")
        if self.views < 2:
            raise UsageError(f"relative poses need at least 2 --views, not {self.views}")
        if not self.accel:
            raise UsageError("an evaluation needs at least one --accel")
        references = reference_names(self.references)
        if self.out is not None:
            check_results_folder(self.out, FILES, self.overwrite)
        write = None if self.out is None else partial(write_posed, folder=self.out, command=command_line())
        model = self.model.load()
        with Bars() as bars:
            result = evaluate_posed(
                model,
                self.folders,
                self.accel,
                self.views,
                self.seed,
                self.how.options(),
                partial(bars, "evaluate"),
                write,
                references,
                self.reference_cache,
                None if self.refine == "none" else RefineOptions(),
                StereoOptions() if self.refine == "depth" else None,
            )
        say(posed_table(result))
        if write is not None:
            say_written(write(result))
        return 0
