"""nerfstudio: `transforms.json` with OpenGL cameras, intrinsics per frame, source images and points."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..errors import UsageError
from .depth import DepthMaps, DepthOptions
from .export_format import ExportFormat, ExportTarget, PointOptions, check_choice
from .image_files import ImageOptions, command, tell_names
from .ply import write_ply

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# Camera axes: OpenCV (y down, z forward) to OpenGL (y up, z backward).
OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
# World axes: y down to z up, (x, y, z) -> (x, z, -y), which is what nerfstudio does to COLMAP models.
APPLIED_TRANSFORM = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]])


@dataclasses.dataclass(frozen=True)
class NerfstudioOptions(PointOptions, ImageOptions):
    """`transforms.json`, `sparse_pc.ply` and `images/`, as ns-train reads them."""

    max_points: int | None = 200_000
    depth: bool = False
    """Also write depth maps in the size of the images, `depths/`, named in transforms.json."""

    def __post_init__(self) -> None:
        check_choice("nerfstudio", "images", self.images, ("copy", "transparent", "none"))
        PointOptions.__post_init__(self)
        ImageOptions.__post_init__(self)


def _write(scene: Reconstruction, options: NerfstudioOptions, target: ExportTarget) -> None:
    names = options.names(scene)
    in_folders = next((name for name in names if "/" in name), None)
    if options.downscale and in_folders is not None:
        raise UsageError(
            "nerfstudio: transforms.json cannot lead to smaller images in sub-folders, as of "
            f"{in_folders!r}; leave --downscale out, or export colmap with it and train with that parser"
        )
    cloud = options.cloud(scene)
    points = cloud.points @ APPLIED_TRANSFORM[:, :3].T + APPLIED_TRANSFORM[:, 3]
    maps = DepthMaps(scene, DepthOptions(original_resolution=True)) if options.depth else None
    depth_paths = None if maps is None else [f"depths/{name}" for name in maps.names]
    masked = options.copied and scene.masked is not None
    mask_paths = [f"masks/{name}.png" for name in names] if masked else None
    content = transforms_json(scene, [f"images/{name}" for name in names], depth_paths, mask_paths)
    text = json.dumps(content, indent=1)
    needed = len(text) + 15 * len(cloud) + options.needed_bytes(scene) + 1000
    needed += 0 if maps is None else 2 * maps.needed_bytes()
    with target.staged(needed, options.folders()) as stage:
        stage.file("transforms.json").write_text(text, encoding="utf-8")
        write_ply(stage.file("sparse_pc.ply"), points, cloud.colours)
        if maps is not None:
            maps.write(stage, "depths", options.downscale)
        options.write(scene, stage, target.progress)
    if options.copied:
        tell_names(scene, target)
        factor = options.usual_factor(scene)
        data = target.out_dir.resolve()
        parser: tuple[object, ...] = ("nerfstudio-data", "--downscale-factor", factor)
        line = command("ns-train", "splatfacto", "--data", data, *parser, "--load-3D-points", True)
        target.tell(f"nerfstudio: {line}")
        if maps is not None:
            scale = ("--depth-unit-scale-factor", f"{1 / maps.counts:.9g}")
            line = command("ns-train", "depth-nerfacto", "--data", data, *parser, *scale)
            target.tell(f"nerfstudio, with depth: {line}")


def transforms_json(
    scene: Reconstruction,
    file_paths: Sequence[str],
    depth_file_paths: Sequence[str] | None = None,
    mask_paths: Sequence[str] | None = None,
) -> dict[str, Any]:
    """The content of `transforms.json`."""
    lenses = np.zeros((len(scene), 4)) if scene.distortion is None else scene.distortion
    matrices = opengl_world_from_cam(scene)
    frames = []
    for index, (view, camera) in enumerate(zip(scene.views, scene.upright_intrinsics, strict=True)):
        frame: dict[str, Any] = {"file_path": file_paths[index]}
        if mask_paths is not None:
            frame["mask_path"] = mask_paths[index]
        if depth_file_paths is not None:
            frame["depth_file_path"] = depth_file_paths[index]
        frame |= {
            "w": view.transform.upright_width,
            "h": view.transform.upright_height,
            "fl_x": camera[0, 0],
            "fl_y": camera[1, 1],
            "cx": camera[0, 2],
            "cy": camera[1, 2],
        }
        # nerfstudio reads those of frames only where there are none above all frames.
        frame |= dict(zip(("k1", "k2", "p1", "p2"), lenses[index].tolist(), strict=True))
        frames.append({**frame, "transform_matrix": matrices[index].tolist()})
    return {
        "camera_model": "OPENCV",
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
