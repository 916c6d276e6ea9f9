"""COLMAP: a sparse model at original resolution, with multi-view tracks that a bundle adjuster can use.

One PINHOLE camera per view, in pixels of the upright source image; images are named as in the input,
with sub-folders. Written for COLMAP 4 (rigs and frames included), readable by older versions too.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ..errors import UsageError, optional_module
from ..reconstruction.result.tracks import Tracks
from .export_format import ExportFormat, ExportTarget, check_choice
from .tracks import TrackOptions, build_tracks

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

logger = logging.getLogger(__name__)

# With fewer tracks per view, bundle adjustment hardly constrains a camera.
_FEW_TRACKS = 50


@dataclasses.dataclass(frozen=True)
class ColmapOptions:
    """`sparse/0/` with cameras, images, points3D, rigs and frames; `images/` with the upright images."""

    files: Literal["both", "binary", "text"] = "both"
    """Which form of the model to write; readers that find both take the binary one."""
    images: Literal["copy", "none"] = "copy"
    """copy: also write the source images, rotated upright if their EXIF orientation says so."""
    tracks: TrackOptions = dataclasses.field(default_factory=TrackOptions)
    """How points and their observations are chosen."""

    def __post_init__(self) -> None:
        check_choice("colmap", "files", self.files, ("both", "binary", "text"))
        check_choice("colmap", "images", self.images, ("copy", "none"))


def _write(scene: Reconstruction, options: ColmapOptions, target: ExportTarget) -> None:
    optional_module("pycolmap", "The COLMAP export", "colmap")
    copy = options.images == "copy"
    names = scene.source_image_names if copy else scene.names
    if not copy and options.files != "binary":
        spaced = next((name for name in names if len(name.split()) > 1), None)
        if spaced is not None:
            raise UsageError(
                f"COLMAP's text files cannot hold the name {spaced!r} because of its spaces; "
                "export with --images copy, which renames it (or with ColmapOptions(files='binary'))"
            )
    steps = len(scene) * (2 if copy else 1)
    tracks = build_tracks(scene, options.tracks, lambda done, total: target.progress(done, steps))
    _log_counts(tracks, len(scene))
    model = build_model(scene, tracks, names)
    needed = 200 * len(tracks.pixels) + 400 * len(tracks.points) + 2000 * len(scene)
    needed += scene.source_images_size() if copy else 0
    with target.staged(needed) as stage:
        folder = stage.path / "sparse" / "0"
        folder.mkdir(parents=True)
        if options.files != "text":
            model.write_binary(folder)
        if options.files != "binary":
            model.write_text(folder)
        if copy:
            scene.write_source_images(
                stage.path / "images", lambda done, total: target.progress(len(scene) + done, steps)
            )


def build_model(scene: Reconstruction, tracks: Tracks, names: tuple[str, ...]) -> Any:
    """The `pycolmap.Reconstruction`: image ids are view numbers from 1, errors in original pixels."""
    import pycolmap

    model = pycolmap.Reconstruction()
    upright = scene.upright_intrinsics
    order = np.argsort(tracks.view_index, kind="stable")
    bounds = np.searchsorted(tracks.view_index[order], np.arange(len(scene) + 1))
    slot = np.empty(len(order), dtype=np.int64)
    for index, view in enumerate(scene.views):
        observed = order[bounds[index] : bounds[index + 1]]
        slot[observed] = np.arange(len(observed))
        transform, matrix = view.transform, upright[index]
        scale = np.array([transform.scale_x, transform.scale_y])
        offset = np.array([transform.offset_x, transform.offset_y])
        camera = pycolmap.Camera(
            model="PINHOLE",
            width=transform.upright_width,
            height=transform.upright_height,
            params=[matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2]],
            camera_id=index + 1,
        )
        model.add_camera_with_trivial_rig(camera)
        image = pycolmap.Image(
            name=names[index],
            keypoints=(tracks.pixels[observed] - offset) / scale,
            camera_id=index + 1,
            image_id=index + 1,
        )
        rotation = pycolmap.Rotation3d(scene.cam_from_world[index, :, :3])
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(rotation, scene.cam_from_world[index, :, 3])
        )
    ends = np.searchsorted(tracks.point_index, np.arange(len(tracks.points) + 1)).tolist()
    views, slots = (tracks.view_index + 1).tolist(), slot.tolist()
    for point, (start, end) in enumerate(itertools.pairwise(ends)):
        elements = [pycolmap.TrackElement(views[i], slots[i]) for i in range(start, end)]
        model.add_point3D(tracks.points[point], pycolmap.Track(elements), tracks.colours[point])
    model.update_point_3d_errors()
    for point_id in [i for i, point in model.points3D.items() if point.track.length() == 1]:
        model.points3D[point_id].error = -1.0  # unknown: a point of one view projects onto itself
    return model


def _log_counts(tracks: Tracks, views: int) -> None:
    several = tracks.lengths > 1
    count, alone = int(several.sum()), int((~several).sum())
    mean = float(tracks.lengths[several].mean()) if count else 0.0
    logger.info("COLMAP: %d points seen by several views, %.1f views each on average", count, mean)
    if alone:
        logger.info("COLMAP: %d further points are observed by one view only", alone)
    if views > 1 and count < _FEW_TRACKS * views:
        logger.warning(
            "only %d points are seen consistently by several of the %d views: the depth maps agree too "
            "little for bundle adjustment, and the cameras may be wrong",
            count,
            views,
        )


FORMAT = ExportFormat(
    "colmap", "sparse model with tracks: gsplat, COLMAP, bundle adjustment", ColmapOptions, _write
)
