"""`manyview reconstruct INPUT OUT`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from ..refine.options import RefineOptions
from .console import Bars, quality_line, say, say_notes, say_warnings
from .export import chosen_formats, export_all
from .long_run import check_long_run
from .options import (
    DevicesChoice,
    KnownChoice,
    MaskChoice,
    check_apart,
)
from .refining import (
    Refinement,
    left_to_do,
    require_refinement,
    say_refinement,
    stereo_options,
    without_refinement,
)
from .scene_choice import SceneChoice

if TYPE_CHECKING:
    from ..models.network import Network
    from ..reconstruction.inputs.options import InputOptions, InputSet
    from ..reconstruction.result.result import Reconstruction
    from ..reconstruction.run.options import ReconstructOptions
    from ..reconstruction.run.prepare import PreparedRun


_TOLD = ("read", "forward", "refine", "confirm depth")  # stages of the last line


@dataclasses.dataclass(frozen=True)
class Request:
    """What `reconstruct` is to do: with which files, where to, and how."""

    given: InputSet
    folder: Path
    formats: dict[str, Any]
    refinement: Refinement | None
    options: ReconstructOptions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Reconstruct(SceneChoice):
    """Photos or a video to cameras, depth maps and a point cloud.

    INPUT is a folder, a glob, a text list of files, a video, or several images; OUT is a new folder.
    """

    paths: tyro.conf.Positional[tuple[str, ...]]
    """INPUT [INPUT ...] OUT"""
    overwrite: bool = False
    """Replace an earlier result of ManyView in OUT; other files are never touched."""
    server: str | None = None
    """Have `manyview serve` at this address (http://host:7870) compute it; all else is as without."""
    token: str | None = None
    """Token of the server; default: MANYVIEW_TOKEN."""
    receipt: bool = False
    """First run --accel and dense attention on a sample of the views: time saved, deviation, break-even."""
    receipt_views: int | None = None
    """Views in that sample, evenly spread; default: up to 24, as many as dense should manage in a minute."""
    yes: bool = False
    """Start a run of an hour or more without asking."""
    known: KnownChoice = dataclasses.field(default_factory=KnownChoice)
    masks: MaskChoice = dataclasses.field(default_factory=MaskChoice)
    ranks: DevicesChoice = dataclasses.field(default_factory=DevicesChoice)

    def run(self) -> int:
        from ..distributed.environment import RankEnvironment
        from .several_ranks import run_as_rank, run_on

        if self.server is not None or self.token is not None:
            from .reconstruct_there import reconstruct_there

            reconstruct_there(self)
            return 0
        place = RankEnvironment.find()
        if place is not None:
            return run_as_rank(self, place)
        devices = self.ranks.chosen(self.how.device)
        if len(devices) > 1:
            run_on(self, devices)
        elif devices:
            how = dataclasses.replace(self.how, device=devices[0])
            dataclasses.replace(self, how=how).reconstructed()
        else:
            self.reconstructed()
        return 0

    def request(self, here: bool = True) -> Request:
        """What the command is to do, after all checks that need no weights; without `here` elsewhere."""
        from ..errors import UsageError
        from ..files.paths import user_path

        if len(self.paths) < 2:
            raise UsageError("give an input and an output folder: manyview reconstruct PHOTOS OUT")
        formats = self.exports.options(chosen_formats(self.to))
        refinement = self.refinement(here)
        folder = user_path(self.paths[-1])
        check_apart(self.paths[:-1], folder)
        options = self.masks.onto(self.known.onto(self.how.options()))
        options = dataclasses.replace(
            options,
            compare=self.receipt,
            compare_views=self.receipt_views,
            known_where_taken=refinement is not None,
        )
        given = self.found(options.inputs)  # a misspelt path is reported before weights are fetched
        return Request(given, folder, formats, refinement, options)

    def found(self, options: InputOptions) -> InputSet:
        """The images or the video that the command names."""
        from ..reconstruction.inputs.find import find_inputs

        inputs = self.paths[:-1]
        return find_inputs(inputs[0] if len(inputs) == 1 else list(inputs), options)

    def reconstructed(self, model: Network | None = None, bars: Bars | None = None) -> Reconstruction:
        """Run, show and write; `model`: weights that are loaded already."""
        from ..files.lock import sole_writer
        from ..files.writing import require_space
        from ..reconstruction.result.arrays import array_bytes
        from ..reconstruction.run.engine import reconstruct_into
        from ..reconstruction.run.prepare import prepare

        request = self.request()
        with sole_writer(request.folder), bars or Bars() as bars:
            earlier = self.earlier_settings(request)
            model = model or self.model.load()
            options = self.single_view.onto(request.options, self.model)
            ready = prepare(request.given, model, options, bars)
            say_notes(ready.notes, said=() if model.info is None else model.info.notes)
            scene = self.earlier_result(request, ready, earlier)
            if scene is not None:
                return self.completed(scene, request, bars, ready, model)
            check_long_run(ready, model, self.yes)
            require_space(request.folder, array_bytes(ready.views.images.shape, ready.chosen.request.heads))
            scene = reconstruct_into(ready, model, request.folder, self.overwrite, bars)
            scene = self.exported(scene, request, bars)
        for note in scene.notes[len(ready.notes) :]:
            say(note)
        self.say_end(scene, ready.chosen.machine.device.type)
        return scene

    def earlier_settings(self, request: Request) -> dict[str, Any] | None:
        """Settings of the result in the folder, or None. Raises OutputError for other things in it."""
        from ..errors import ManyViewError
        from ..reconstruction.result.load import read_settings
        from ..reconstruction.result.save import check_output_folder

        try:
            return read_settings(request.folder)
        except ManyViewError:
            check_output_folder(request.folder, self.overwrite, self.receipt)
            return None

    def earlier_result(
        self, request: Request, ready: PreparedRun, earlier: dict[str, Any] | None
    ) -> Reconstruction | None:
        """The result in the folder if it is this one, arrays and all. Raises OutputError for another one."""
        from ..reconstruction.result.load import load_if_whole
        from ..reconstruction.result.save import check_output_folder

        if earlier is None or self.overwrite:
            return None
        scene = load_if_whole(request.folder) if lacking(request, ready, earlier) != "other" else None
        if scene is None:
            check_output_folder(request.folder)
        return scene

    def completed(
        self,
        scene: Reconstruction,
        request: Request,
        bars: Bars,
        ready: PreparedRun | None = None,
        model: Network | None = None,
    ) -> Reconstruction:
        """A result that was there already, with what this command asks for and it lacks.

        `ready` and `model` are for the comparison, if one is wanted.
        """
        say(f"{self.paths[-1]} already holds this reconstruction (same views, weights and settings)")
        refinement = request.refinement
        if refinement is not None:
            left = left_to_do(scene.settings.get("refine"), refinement.settings(scene.views))
            if left != "nothing":
                scene = refinement.into(scene, request.folder, bars)
            else:
                say_refinement(scene)
        self._complete(scene, ready, model, request.formats, bars)
        if scene.quality is not None:
            say(quality_line(scene.quality))
        say_warnings(scene.warnings)
        return scene

    def exported(self, scene: Reconstruction, request: Request, bars: Bars) -> Reconstruction:
        """A new result, refined if that is wanted, with its exports."""
        if request.refinement is not None:
            scene = request.refinement.into(scene, request.folder, bars)
        export_all(scene, request.folder, request.formats, bars)
        return scene

    def say_end(self, scene: Reconstruction, device: str) -> None:
        """How good a new result is, and what it took."""
        if scene.quality is not None:
            say(quality_line(scene.quality))
        timings = scene.timings_s
        whole = "" if device == "cuda" else " (whole process)"
        stages = {stage: timings[stage] for stage in _TOLD if stage in timings}
        say(
            f"{len(scene)} view{'s' if len(scene) != 1 else ''} in {sum(stages.values()):.1f} s "
            f"({', '.join(f'{stage} {seconds:.1f}' for stage, seconds in stages.items())}); "
            f"peak {scene.peak_memory_bytes / 2**20:.0f} MiB{whole}; written to {self.paths[-1]}"
        )
        say_warnings(scene.warnings)

    def refinement(self, here: bool = True) -> Refinement | None:
        """What --refine asks for, or None; without `here` another machine is to do it."""
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
        if here:
            require_refinement()
        known = KnownFiles(self.known.known_cameras)
        return Refinement(self.refining, known, None, stereo, self.how.device)

    def _complete(
        self,
        scene: Reconstruction,
        ready: PreparedRun | None,
        model: Network | None,
        formats: dict[str, Any],
        bars: Bars,
    ) -> None:
        """Add to a result that is there already what this command asks for and it lacks."""
        from ..export import is_exported
        from ..reconstruction.run.engine import with_comparison

        folder, earlier = Path(self.paths[-1]), scene
        if self.receipt and ready is not None and model is not None:
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


def lacking(
    request: Request, ready: PreparedRun, earlier: Mapping[str, Any]
) -> Literal["nothing", "depth", "all", "other"]:
    """What a result of these settings lacks of a refinement (`left_to_do`); "other": it is another one."""
    wanted = None if request.refinement is None else request.refinement.settings(ready.views.records)
    same = ready.made(request.folder, without_refinement(earlier))
    return left_to_do(earlier.get("refine"), wanted) if same else "other"
