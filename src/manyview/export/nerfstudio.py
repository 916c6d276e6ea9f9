"""nerfstudio: `transforms.json` with OpenGL cameras, intrinsics per frame, source images and points."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from .export_format import ExportFormat, ExportTarget, PointOptions, check_choice
from .ply import write_ply

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# Camera axes: OpenCV (y down, z forward) to OpenGL (y up, z backward).
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# World axes: y down to z up, (x, y, z) -> (x, z, -y), which is what nerfstudio does to COLMAP models.
APPLIED_TRANSFORM = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]])


@dataclasses.dataclass(frozen=True)
class NerfstudioOptions(PointOptions):
    """`transforms.json`, `sparse_pc.ply` and `images/`, as ns-train reads them."""

    images: Literal["copy", "none"] = "copy"
    """copy: also write the source images, rotated upright if their EXIF orientation says so."""
    max_points: int | None = 200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("nerfstudio", "images", self.images, ("copy", "none"))


def _write(scene: Reconstruction, options: NerfstudioOptions, target: ExportTarget) -> None:
    copy = options.images == "copy"
    names = scene.source_image_names if copy else scene.names
    cloud = options.cloud(scene)
    points = cloud.points @ APPLIED_TRANSFORM[:, :3].T + APPLIED_TRANSFORM[:, 3]
    text = json.dumps(transforms_json(scene, [f"images/{name}" for name in names]), indent=1)
    needed = len(text) + 15 * len(cloud) + (scene.source_images_size() if copy else 0) + 1000
    with target.staged(needed) as stage:
        stage.file("transforms.json").write_text(text, encoding="utf-8")
        write_ply(stage.file("sparse_pc.ply"), points, cloud.colours)
        if copy:
            scene.write_source_images(stage.path / "images", target.progress)


def transforms_json(scene: Reconstruction, file_paths: list[str]) -> dict[str, Any]:
    """The content of `transforms.json`."""
    frames = [
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
        for view, path, matrix, camera in zip(
            scene.views, file_paths, opengl_world_from_cam(scene), scene.upright_intrinsics, strict=True
        )
    ]
    return {
        "camera_model": "OPENCV",
        **dict.fromkeys(("k1", "k2", "p1", "p2"), 0.0),
        "applied_transform": APPLIED_TRANSFORM.tolist(),
        "ply_file_path": "sparse_pc.ply",
        "frames": frames,
    }


def opengl_world_from_cam(scene: Reconstruction) -> Float[np.ndarray, "views 4 4"]:
    """Camera-to-world matrices with OpenGL camera axes, world axes after `APPLIED_TRANSFORM`."""
    bottom = np.broadcast_to([[[0.0, 0.0, 0.0, 1.0]]], (len(scene), 1, 4))
    world_from_cam = np.concatenate([scene.world_from_cam, bottom], axis=1)
    return np.vstack([APPLIED_TRANSFORM, [0.0, 0.0, 0.0, 1.0]]) @ world_from_cam @ OPENCV_FROM_OPENGL


FORMAT = ExportFormat("nerfstudio", "transforms.json: ns-train", NerfstudioOptions, _write)
