"""Refinement as `refine` and `reconstruct --refine` do it: in the result folder, and to be gone on with."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..files.naming import enumerated, printable
from ..files.writing import OWN_PREFIX
from .console import Bars, say, say_notes

if TYPE_CHECKING:
    from ..reconstruction.inputs.views import ViewRecord
    from ..reconstruction.known.files import KnownFiles
    from ..reconstruction.result.result import Reconstruction
    from ..refine.options import RefineOptions
    from ..refine.stereo import StereoOptions

WORK_NAME = f"{OWN_PREFIX}refine"
_BYTES_OF_VIEW = 4_000_000  # features and matches


@dataclasses.dataclass(frozen=True)
class Refinement:
    """What is refined, and how; see `manyview.refine`."""

    options: RefineOptions
    known: KnownFiles
    images: Path | None = None
    stereo: StereoOptions | None = None
    device: str = "auto"

    def settings(self, views: Sequence[ViewRecord]) -> dict[str, Any]:
        """What a result that was refined like this has among its settings, as "refine"."""
        from ..refine.refinement import known_cameras, refine_settings

        return refine_settings(self.options, known_cameras(views, self.known), self.stereo)

    def into(self, scene: Reconstruction, folder: Path, bars: Bars) -> Reconstruction:
        """Refine (what is still left of it), save and say what came out, as the folder's sole writer.

        Features and matches are kept in the folder until it is done, so that the same command goes on from
        there after it was stopped.
        """
        from ..files.writing import require_space
        from ..refine import refine
        from ..refine.refinement import with_measured_depth
        from ..refine.sources import with_sources

        left = left_to_do(scene.settings.get("refine"), self.settings(scene.views))
        work = folder / WORK_NAME
        require_space(folder, scene.source_images_size() + _BYTES_OF_VIEW * len(scene))
        try:
            if left == "depth" and self.stereo is not None:
                scene = with_sources(scene, self.images)
                refined = with_measured_depth(scene, self.stereo, self.device, bars)
            else:
                refined = refine(
                    scene,
                    self.images,
                    self.options,
                    known=self.known,
                    work=work,
                    progress=bars,
                    stereo=self.stereo,
                    device=self.device,
                )
        except KeyboardInterrupt:
            say("the refinement was stopped, the result is what it was; the same command goes on from here")
            raise
        refined.save(folder, overwrite=True)
        shutil.rmtree(work, ignore_errors=True)
        say_refinement(refined)
        return refined


def require_refinement() -> None:
    """MissingExtraError without what a refinement needs; ask before long work."""
    from ..refine.refinement import require_pycolmap

    require_pycolmap()


def stereo_options(depth: bool, size: int | None) -> StereoOptions | None:
    """How depth is measured, or None. Raises UsageError for a size of what is not asked for."""
    from ..errors import UsageError

    if not depth:
        if size is not None:
            raise UsageError("--depth-size is that of depth that is measured: ask for that (--refine depth)")
        return None
    from ..refine.stereo import StereoOptions

    return StereoOptions() if size is None else StereoOptions(size=size)


def left_to_do(
    earlier: Mapping[str, Any] | None, wanted: Mapping[str, Any] | None
) -> Literal["nothing", "depth", "all", "other"]:
    """What is left of a refinement, from the settings "refine" of a result and those that are wanted.

    "other": the result was refined in another way.
    """
    if earlier is None or wanted is None:
        return "nothing" if earlier == wanted else "all" if earlier is None else "other"
    if not isinstance(earlier, Mapping):  # of a file that somebody changed
        return "other"
    if earlier == wanted or {**earlier, "depth": None} == wanted:
        return "nothing"
    return "depth" if earlier == {**wanted, "depth": None} else "other"


def without_refinement(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a result as the network left it."""
    return {name: value for name, value in settings.items() if name != "refine"}


def say_refinement(scene: Reconstruction) -> None:
    """What a refinement did, in a line or two."""
    refinement = scene.refinement or {}
    say(f"refinement: {printable(str(refinement.get('sentence')))}")
    left = [view["name"] for view in refinement.get("views", ()) if view["status"] == "unrefined"]
    if refinement.get("accepted") and left:
        say(f"unrefined, beside their neighbours as the network saw them: {enumerated(left, 3)}")
    say_notes(refinement.get("notes", ()))
    if "stereo" in refinement:
        say(f"depth: {printable(str(refinement['stereo'].get('sentence')))}")
