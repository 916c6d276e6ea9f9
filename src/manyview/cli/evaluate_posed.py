"""`manyview evaluate posed DIR...`: accuracy on real images with known cameras."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from .console import Bars, say
from .options import ModelChoice, ModelFields

if TYPE_CHECKING:
    from ..evaluate.runner.records import Evaluation


@dataclasses.dataclass(frozen=True)
class EvaluatePosed:
    """Cameras, and depth where there is any, against measured truth, plans side by side and beside
    image-independent baselines. Known formats: poses.txt beside images, 7-Scenes, KITTI odometry, TUM RGB-D,
    Strecha's .camera files."""

    folders: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of images with cameras, one table each."""
    model: ModelFields = dataclasses.field(default_factory=ModelChoice)
    views: int = 24
    """At most this many views of each folder, evenly spread."""
    accel: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["--plans"])] = ("dense", "frame")
    """How frames meet in global attention: one row each."""
    references: tuple[str, ...] = ("identity", "mean-step")
    """Rows beside the plans: identity, mean-step (both image-independent), colmap (an extra), or none."""
    reference_cache: Path | None = None
    """Folder that keeps what COLMAP found, for runs of other models on the same images."""
    size_policy: Literal["auto", "fit", "crop", "pad", "square", "area", "balanced", "max_size"] = "auto"
    """auto: the model's own; fit: whole images; crop, pad, square: VGGT's; area: π³'s; others: VGGT-Ω's."""
    image_size: int | None = None
    """Longer side of the network's images in pixels; default: what the weights were made for."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Of the trunk; auto: bf16 where the device multiplies it, else fp16 on CUDA, fp32 on CPUs."""
    memory_limit_gib: float | None = None
    """Plan for at most this much memory."""
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
        from ..reconstruction.run.options import ReconstructOptions

        if not self.folders:
            raise UsageError("give a folder of images with cameras: manyview evaluate posed DIR")
        if self.views < 2:
            raise UsageError(f"relative poses need at least 2 --views, not {self.views}")
        if not self.accel:
            raise UsageError("an evaluation needs at least one --accel")
        references = reference_names(self.references)
        if self.out is not None:
            check_results_folder(self.out, FILES, self.overwrite)
        command = shlex.join(["manyview", *sys.argv[1:]])

        def keep(so_far: Evaluation) -> None:
            if self.out is not None:
                write_posed(so_far, self.out, command)

        options = ReconstructOptions(
            size_policy=self.size_policy,
            image_size=self.image_size,
            device=self.device,
            precision=self.precision,
            memory_limit_gib=self.memory_limit_gib,
        )
        model = self.model.load()
        with Bars() as bars:
            result = evaluate_posed(
                model,
                self.folders,
                self.accel,
                self.views,
                self.seed,
                options,
                partial(bars, "evaluate"),
                keep,
                references,
                self.reference_cache,
            )
        say(posed_table(result))
        if self.out is not None:
            files = write_posed(result, self.out, command)
            say("written: " + ", ".join(str(path) for path in files))
        return 0
