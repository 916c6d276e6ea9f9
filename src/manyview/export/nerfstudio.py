"""nerfstudio: `transforms.json` with OpenGL cameras, intrinsics per frame, pictures and start points."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from ..errors import UsageError
from .ply import write_ply
from .staging import staged_export

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# Camera axes: OpenCV (y down, z forward) to OpenGL (y up, z backward).
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# World axes: y down to z up, (x, y, z) -> (x, z, -y), which is what nerfstudio does to COLMAP models.
APPLIED_TRANSFORM = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]])


@dataclasses.dataclass(frozen=True)
class NerfstudioOptions:
    """`transforms.json`, `sparse_pc.ply` and `images/`, as ns-train reads them."""

    images: Literal["copy", "none"] = "copy"
    """Put the pictures beside the file: copied, or written upright where EXIF had turned them."""
    min_conf_percentile: float = 50.0
    """Start points: leave out this percentile of the least confident pixels."""
    max_points: int = 200_000
    """Start points: at most this many."""

    def __post_init__(self) -> None:
        if self.images not in ("copy", "none"):
            raise UsageError(f"nerfstudio: images must be copy or none, not {self.images!r}")


def export_nerfstudio(
    scene: Reconstruction,
    out_dir: str | Path,
    options: NerfstudioOptions | None = None,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Write a nerfstudio data folder; the file names in it are relative to `out_dir`."""
    options = options or NerfstudioOptions()
    copy = options.images == "copy"
    names = scene.source_image_names if copy else scene.names
    cloud = scene.point_cloud(options.min_conf_percentile, options.max_points, drop_edges=0.1)
    points = cloud.points @ APPLIED_TRANSFORM[:, :3].T + APPLIED_TRANSFORM[:, 3]
    text = json.dumps(transforms_json(scene, [f"images/{name}" for name in names]), indent=1)
    needed = len(text) + 15 * len(cloud) + (scene.source_images_size() if copy else 0) + 1000
    with staged_export(
        scene, out_dir, "nerfstudio", options, needed_bytes=needed, overwrite=overwrite
    ) as stage:
        stage.file("transforms.json").write_text(text, encoding="utf-8")
        write_ply(stage.file("sparse_pc.ply"), points, cloud.colours)
        if copy:
            scene.write_source_images(stage.path / "images", progress)
    return stage.written


def transforms_json(scene: Reconstruction, file_paths: list[str]) -> dict[str, Any]:
    """The content of `transforms.json`."""
    frames = []
    matrices = opengl_world_from_cam(scene)
    for view, path, matrix, camera in zip(
        scene.views, file_paths, matrices, scene.upright_intrinsics, strict=True
    ):
        frames.append(
            {
                "file_path": path,
                "w": view.transform.upright_width,
                "h": view.transform.upright_height,
                "fl_x": camera[0, 0],
                "fl_y": camera[1, 1],
                "cx": camera[0, 2],
                "cy": camera[1, 2],
                "transform_matrix": matrix.tolist(),
            }
        )
    return {
        "camera_model": "OPENCV",
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
        "applied_transform": APPLIED_TRANSFORM.tolist(),
        "ply_file_path": "sparse_pc.ply",
        "frames": frames,
    }


def opengl_world_from_cam(scene: Reconstruction) -> Float[np.ndarray, "views 4 4"]:
    """Camera-to-world matrices with OpenGL camera axes, in the world `APPLIED_TRANSFORM` leads to."""
    bottom = np.broadcast_to([[[0.0, 0.0, 0.0, 1.0]]], (len(scene), 1, 4))
    world_from_cam = np.concatenate([scene.world_from_cam, bottom], axis=1)
    return np.vstack([APPLIED_TRANSFORM, [0.0, 0.0, 0.0, 1.0]]) @ world_from_cam @ OPENCV_FROM_OPENGL
