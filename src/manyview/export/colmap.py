"""COLMAP: a sparse model at original resolution, with observed points that a bundle adjuster can use.

Cameras are in pixels of the upright source images: one PINHOLE (with distortion OPENCV) camera per view, or
those of a refinement. Written for COLMAP 4 (rigs and frames included), readable by older versions too.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, Literal

from ..errors import UsageError, optional_module
from ..files.writing import output_errors
from ..reconstruction.result.tracks import Tracks
from .colmap_model import build_model
from .export_format import ExportFormat, ExportTarget, check_choice
from .image_files import ImageOptions, command, tell_names
from .tracks import TrackOptions, scene_tracks

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

logger = logging.getLogger(__name__)

# With fewer tracks per view, bundle adjustment hardly constrains a camera.
_FEW_TRACKS = 50


@dataclasses.dataclass(frozen=True)
class ColmapOptions(ImageOptions):
    """`sparse/0/` with cameras, images, points3D, rigs and frames; `images/` with the upright images."""

    files: Literal["both", "binary", "text"] = "both"
    """Which form of the model to write; readers that find both take the binary one."""
    tracks: TrackOptions = dataclasses.field(default_factory=TrackOptions)
    """How points and their observations are chosen."""

    def __post_init__(self) -> None:
        check_choice("colmap", "files", self.files, ("both", "binary", "text"))
        check_choice("colmap", "images", self.images, ("copy", "transparent", "none"))
        super().__post_init__()


def _write(scene: Reconstruction, options: ColmapOptions, target: ExportTarget) -> None:
    optional_module("pycolmap", "The COLMAP export", "colmap")
    copy = options.copied
    names = options.names(scene)
    if not copy and options.files != "binary":
        spaced = next((name for name in names if len(name.split()) > 1), None)
        if spaced is not None:
            raise UsageError(
                f"COLMAP's text files cannot hold the name {spaced!r} because of its spaces; "
                "export with --images copy, which renames it (or with ColmapOptions(files='binary'))"
            )
    steps = len(scene) * (2 if copy else 1)
    with output_errors(target.out_dir, 1000 * len(scene)):  # a trial adjustment writes files, too
        tracks = scene_tracks(scene, options.tracks, lambda done, total: target.progress(done, steps))
    model = build_model(scene, tracks, names)
    needed = 200 * len(tracks.pixels) + 400 * len(tracks.points) + 2000 * len(scene)
    with target.staged(needed + options.needed_bytes(scene), options.folders()) as stage:
        folder = stage.path / "sparse" / "0"
        folder.mkdir(parents=True)
        if options.files != "text":
            model.write_binary(folder)
        if options.files != "binary":
            model.write_text(folder)
        options.write(scene, stage, lambda done, total: target.progress(len(scene) + done, steps))
    _tell_counts(scene, tracks, target)
    if copy:
        _tell_commands(scene, options, target)


def _tell_counts(scene: Reconstruction, tracks: Tracks, target: ExportTarget) -> None:
    several = tracks.lengths > 1
    count, alone, views = int(several.sum()), int((~several).sum()), len(scene)
    mean = float(tracks.lengths[several].mean()) if count else 0.0
    logger.info("COLMAP: %d points seen by several views, %.1f views each on average", count, mean)
    if alone:
        logger.info("COLMAP: %d further points are not observed: they initialise splats", alone)
    if views > 1 and count < _FEW_TRACKS * views and scene.tracks is None:
        target.tell(
            f"only {count} points are seen consistently by several of the {views} views, too few for bundle "
            "adjustment or splatting: refine the cameras first (manyview refine), or ask for points that "
            "no view observes (--fill)"
        )


def _tell_commands(scene: Reconstruction, options: ColmapOptions, target: ExportTarget) -> None:
    """Command lines that train splats on what was written."""
    tell_names(scene, target)
    factor = options.usual_factor(scene)
    others = sorted({1, *options.downscale} - {factor})
    note = f" (or {', '.join(map(str, others))})" if others else ""
    data = target.out_dir.resolve()
    gsplat = ("python", "examples/simple_trainer.py", "default", "--data_dir", data, "--data_factor", factor)
    target.tell(f"gsplat{note}: {command(*gsplat, '--result_dir', data / 'splats')}")
    nerfstudio = ("ns-train", "splatfacto", "--data", data, "colmap", "--colmap-path", "sparse/0")
    target.tell(f"nerfstudio{note}: {command(*nerfstudio, '--downscale-factor', factor)}")
    for factor in options.downscale:
        left = target.out_dir / f"images_{factor}_png"
        if left.exists():
            target.tell(f"remove {left} before training: gsplat made it earlier and would take it again")


FORMAT = ExportFormat(
    "colmap", "sparse model with tracks: gsplat, COLMAP, bundle adjustment", ColmapOptions, _write
)
