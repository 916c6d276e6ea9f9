"""`manyview refine RESULT`."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from ..export import FORMATS
from ..refine.options import RefineOptions
from .console import Bars, quality_line, say, say_notes
from .export import chosen_formats, earlier_exports, export_all
from .refining import (
    Refinement,
    left_to_do,
    require_refinement,
    say_refinement,
    stereo_options,
    without_refinement,
)

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction


@dataclasses.dataclass(frozen=True)
class Refine:
    """Exact cameras for a result, from its original images, where these agree better than before."""

    result: tyro.conf.Positional[Path]
    """Output folder of `manyview reconstruct`."""
    out: Path | None = None
    """Where the refined result goes; default: in place of the earlier one."""
    overwrite: bool = False
    """Replace an earlier result of ManyView in --out; other files are never touched."""
    images: Path | None = None
    """Folder (or video) where the original images are now; default: where they were."""
    depth: bool = False
    """Also measure depth from the refined cameras (multi-view stereo), and mark what other views confirm."""
    depth_size: int | None = None
    """Longer side of these depth maps in pixels; default: 512."""
    device: str = "auto"
    """Where depth is measured: auto, cpu, cuda, cuda:1."""
    to: Annotated[
        tuple[str, ...] | None,
        tyro.conf.arg(help=f"Exports to write, or none: {' '.join(FORMATS)}; default: those that are there."),
    ] = None
    known_cameras: Path | None = None
    """COLMAP model, posed data set, or poses.txt and intrinsics.txt; some of the views are enough."""
    masks: Path | None = None
    """Folder of masks called like the images: what they hide gives no features and no points from now on."""
    how: RefineOptions = dataclasses.field(default_factory=RefineOptions)

    def run(self) -> int:
        from ..files.lock import sole_writer
        from ..reconstruction.inputs.view_masks import check_masks
        from ..reconstruction.known.files import KnownFiles
        from ..reconstruction.result.load import load_reconstruction
        from ..reconstruction.result.save import check_output_folder

        require_refinement()
        check_masks(self.masks)
        formats: Any = earlier_exports(self.result) if self.to is None else chosen_formats(self.to)
        stereo = stereo_options(self.depth, self.depth_size)
        known = KnownFiles(self.known_cameras)
        refinement = Refinement(self.how, known, self.images, stereo, self.device)
        scene = load_reconstruction(self.result)
        folder = self.out or self.result
        in_place = folder.exists() and folder.resolve() == self.result.resolve()
        with sole_writer(folder), Bars() as bars:
            if not in_place:
                check_output_folder(folder, self.overwrite)
            if self.masks is not None:
                scene = _masked(scene, self.masks, bars)
            wanted = refinement.settings(scene.views)
            if left_to_do(scene.settings.get("refine"), wanted) == "nothing":
                say(f"{self.result} was refined with these settings before")
                say_refinement(scene)
                if not in_place:
                    scene.save(folder, self.overwrite)
            else:
                scene = refinement.into(scene, folder, bars)
            export_all(scene, folder, _lacking(scene, folder, formats), bars)
        if scene.quality is not None:
            say(quality_line(scene.quality))
        say(f"written to {folder}")
        return 0


def _masked(scene: Reconstruction, masks: Path, bars: Bars) -> Reconstruction:
    """The result with these masks; with others than it had, it is to be refined anew."""
    from ..reconstruction.result.masks import with_masks

    found = with_masks(scene, masks, progress=partial(bars, "masks"))
    if found.settings == scene.settings:
        return dataclasses.replace(found, notes=scene.notes)
    say_notes(found.notes[len(scene.notes) :])
    return dataclasses.replace(found, settings=without_refinement(found.settings))


def _lacking(scene: Reconstruction, folder: Path, formats: Any) -> Any:
    """The exports, with their options if they have any, that the folder does not hold of this result."""
    from ..export import is_exported

    if isinstance(formats, dict):
        return {
            name: options
            for name, options in formats.items()
            if not is_exported(scene, folder, name, options)
        }
    return [name for name in formats if not is_exported(scene, folder, name)]
