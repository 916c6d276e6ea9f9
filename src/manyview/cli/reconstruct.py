"""`manyview reconstruct INPUT OUT`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ..refine.options import RefineOptions
from .console import Bars, quality_line, say, say_notes, say_warnings
from .export import ExportChoice, ExportNames, chosen_formats, export_all
from .long_run import check_long_run
from .options import KnownChoice, MaskChoice, ModelChoice, RunChoice, SingleViewChoice, check_apart
from .refining import (
    Refinement,
    left_to_do,
    require_refinement,
    say_refinement,
    stereo_options,
    without_refinement,
)

if TYPE_CHECKING:
    from ..models.network import Network
    from ..reconstruction.result.result import Reconstruction
    from ..reconstruction.run.prepare import PreparedRun


_TOLD = ("read", "forward", "refine", "confirm depth")  # stages of the last line


@dataclasses.dataclass(frozen=True, kw_only=True)
class SceneChoice:
    """How one scene is reconstructed, whatever its input: what `reconstruct` and `batch` share."""

    to: ExportNames = ("ply", "report")
    model: ModelChoice = dataclasses.field(default_factory=ModelChoice)
    how: RunChoice = dataclasses.field(default_factory=RunChoice)
    single_view: SingleViewChoice = dataclasses.field(default_factory=SingleViewChoice)
    refine: Literal["none", "cameras", "depth"] = "none"
    """Exact cameras afterwards, from the original images (--refine alone), and depth that they confirm
    (--refine depth); see `manyview refine`."""
    depth_size: int | None = None
    """Longer side of the depth maps of --refine depth in pixels; default: 512."""
    refining: RefineOptions = dataclasses.field(default_factory=RefineOptions)
    exports: ExportChoice = dataclasses.field(default_factory=ExportChoice)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruct(SceneChoice):
    """Photos or a video to cameras, depth maps and a point cloud.

    INPUT is a folder, a glob, a text list of files, a video, or several images; OUT is a new folder.
    """

    paths: tyro.conf.Positional[tuple[str, ...]]
    """INPUT [INPUT ...] OUT"""
    overwrite: bool = False
    """Replace an earlier result of ManyView in OUT; other files are never touched."""
    receipt: bool = False
    """First run --accel and dense attention on a sample of the views: time saved, deviation, break-even."""
    receipt_views: int | None = None
    """Views in that sample, evenly spread; default: up to 24, as many as dense should manage in a minute."""
    yes: bool = False
    """Start a run of an hour or more without asking."""
    known: KnownChoice = dataclasses.field(default_factory=KnownChoice)
    masks: MaskChoice = dataclasses.field(default_factory=MaskChoice)

    def run(self) -> int:
        self.reconstructed()
        return 0

    def reconstructed(self, model: Network | None = None, bars: Bars | None = None) -> Reconstruction:
        """Run, show and write; `model`: weights that are loaded already."""
        from ..errors import UsageError
        from ..files.lock import sole_writer
        from ..files.paths import user_path
        from ..files.writing import require_space
        from ..reconstruction.inputs.find import find_inputs
        from ..reconstruction.result.arrays import array_bytes
        from ..reconstruction.result.save import check_output_folder
        from ..reconstruction.run.engine import reconstruct_into
        from ..reconstruction.run.prepare import prepare

        if len(self.paths) < 2:
            raise UsageError("give an input and an output folder: manyview reconstruct PHOTOS OUT")
        *inputs, out = self.paths
        formats = self.exports.options(chosen_formats(self.to))
        refinement = self.refinement()
        folder = user_path(out)
        check_apart(inputs, folder)
        given = inputs[0] if len(inputs) == 1 else inputs
        options = self.masks.onto(self.known.onto(self.how.options()))
        options = dataclasses.replace(
            options,
            compare=self.receipt,
            compare_views=self.receipt_views,
            known_where_taken=refinement is not None,
        )
        find_inputs(given, options.inputs)  # a misspelt path is reported before weights are fetched
        with sole_writer(folder), bars or Bars() as bars:
            earlier = _earlier_settings(folder)
            if earlier is None:
                check_output_folder(folder, self.overwrite, self.receipt)
            model = model or self.model.load()
            options = self.single_view.onto(options, self.model)
            ready = prepare(given, model, options, bars)
            say_notes(ready.notes, said=() if model.info is None else model.info.notes)
            if earlier is not None and not self.overwrite:
                wanted = None if refinement is None else refinement.settings(ready.views.records)
                left = left_to_do(earlier.get("refine"), wanted)
                same = without_refinement(earlier) == ready.settings and left != "other"
                scene = _whole_result(folder) if same else None
                if scene is None:
                    check_output_folder(folder)
                else:
                    say(f"{out} already holds this reconstruction (same views, weights and settings)")
                    if refinement is not None and left != "nothing":
                        scene = refinement.into(scene, folder, bars)
                    elif refinement is not None:
                        say_refinement(scene)
                    self._complete(scene, ready, model, formats, bars)
                    if scene.quality is not None:
                        say(quality_line(scene.quality))
                    say_warnings(scene.warnings)
                    return scene
            check_long_run(ready, model, self.yes)
            require_space(folder, array_bytes(ready.views.images.shape, ready.chosen.request.heads))
            scene = reconstruct_into(ready, model, folder, self.overwrite, bars)
            if refinement is not None:
                scene = refinement.into(scene, folder, bars)
            export_all(scene, folder, formats, bars)
        for note in scene.notes[len(ready.notes) :]:
            say(note)
        if scene.quality is not None:
            say(quality_line(scene.quality))
        timings = scene.timings_s
        whole = "" if ready.chosen.machine.device.type == "cuda" else " (whole process)"
        stages = {stage: timings[stage] for stage in _TOLD if stage in timings}
        say(
            f"{len(scene)} view{'s' if len(scene) != 1 else ''} in {sum(stages.values()):.1f} s "
            f"({', '.join(f'{stage} {seconds:.1f}' for stage, seconds in stages.items())}); "
            f"peak {scene.peak_memory_bytes / 2**20:.0f} MiB{whole}; written to {out}"
        )
        say_warnings(scene.warnings)
        return scene

    def refinement(self) -> Refinement | None:
        """What --refine asks for, or None."""
        from ..errors import UsageError
        from ..reconstruction.known.files import KnownFiles

        stereo = stereo_options(self.refine == "depth", self.depth_size)
        if self.refine == "none":
            if self.refining != RefineOptions():
                changed = next(
                    field.name
                    for field in dataclasses.fields(RefineOptions)
                    if getattr(self.refining, field.name) != field.default
                )
                flag = "--" + changed.replace("_", "-")
                raise UsageError(f"{flag} is about the refinement of cameras: give --refine too")
            return None
        require_refinement()
        known = KnownFiles(self.known.known_cameras)
        return Refinement(self.refining, known, None, stereo, self.how.device)

    def _complete(
        self, scene: Reconstruction, ready: PreparedRun, model: Network, formats: dict[str, Any], bars: Bars
    ) -> None:
        """Add to a result that is there already what this command asks for and it lacks."""
        from ..export import is_exported
        from ..reconstruction.run.engine import with_comparison

        folder, earlier = Path(self.paths[-1]), scene
        if self.receipt:
            scene = with_comparison(earlier, ready, model, bars)
            say_notes(note for note in scene.notes if note not in earlier.notes)
            if scene.comparison is not None:
                scene.save(folder, overwrite=True)
        # The report is the only export that shows the comparison.
        changed = ("report",) if self.receipt else ()
        lacking = {
            name: options
            for name, options in formats.items()
            if name in changed or not is_exported(scene, folder, name, options)
        }
        export_all(scene, folder, lacking, bars)


def _earlier_settings(folder: Path) -> dict[str, Any] | None:
    """Settings of an earlier result in `folder`, or None."""
    from ..errors import ManyViewError
    from ..reconstruction.result.load import read_settings

    try:
        return read_settings(folder)
    except ManyViewError:
        return None


def _whole_result(folder: Path) -> Reconstruction | None:
    """The result in `folder` if it loads, arrays and all."""
    from ..errors import ManyViewError
    from ..reconstruction.result.load import load_reconstruction

    try:
        return load_reconstruction(folder)
    except ManyViewError:
        return None
