"""Known cameras from files: a COLMAP model, a posed data set, or text files of matrices.

Text files hold row-major 4x4 world_from_cam (camera-to-world, OpenCV axes) matrices, 16 numbers a line: one
line an image in the order of the input, or after the image's name, which leaves out unknown cameras. A 3x3
matrix in `intrinsics.txt` beside it (or alone) holds for all images, with pixel centres at whole numbers.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ...datasets import colmap_model, dataset_of, read_posed_set
from ...datasets.posed_set import PosedSet, cameras_from_world_from_cam
from ...datasets.text_files import intrinsics_file, lines_of, numbers, pose_matrices
from ...errors import InputError
from ...files.naming import replace_undecodable, suggestion
from ...files.paths import user_path
from ...geometry.unproject_np import invert_rigid


@dataclasses.dataclass(frozen=True)
class KnownCamera:
    """One view's camera; None is unknown. `size` (width, height) is that of the image of the intrinsics."""

    world_from_cam: Float64[np.ndarray, "3 4"] | None = None
    intrinsics: Float64[np.ndarray, "3 3"] | None = None
    size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class KnownCameras:
    """Cameras by the name of the image, or (`in_order`) one for each view of the input in turn.

    `for_all` holds for every view. `notes` are sentences for the user.
    """

    by_name: dict[str, KnownCamera] = dataclasses.field(default_factory=dict)
    in_order: tuple[KnownCamera, ...] = ()
    for_all: KnownCamera | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class KnownData:
    """What is known of the views: the camera of each or None, and the depth map of each or None.

    `depth` is None where no depth is given; maps are NaN where unknown. `depth_from` names its source.
    """

    cameras: list[KnownCamera | None]
    notes: tuple[str, ...] = ()
    depth: Iterable[Float64[np.ndarray, "height width"] | None] | None = None
    depth_from: Path | str = ""


def read_known_cameras(path: Path) -> KnownCameras:
    """The cameras in a file or folder. Raises InputError where there are none."""
    path = user_path(path)
    if path.is_file():
        return _from_text(path)
    if not path.is_dir():
        raise InputError(f"'{path}' is no file or folder{suggestion(path)}; give known cameras")
    model = colmap_model.model_folder(path)
    if model is not None:
        return _from_colmap(model)
    if dataset_of(path) is not None:
        try:
            return _from_posed_set(read_posed_set(path))
        except InputError:
            if not (path / "poses.txt").is_file():
                raise
    for name in ("poses.txt", "intrinsics.txt"):
        if (path / name).is_file():
            return _from_text(path / name)
    raise InputError(
        f"{path}: holds no cameras; expected a COLMAP model (cameras and images, in sparse/0/ or here), "
        "poses.txt with 16 numbers a line, intrinsics.txt with a 3x3 matrix, or a posed data set"
    )


def _from_colmap(folder: Path) -> KnownCameras:
    found, distorted = {}, False
    for image, camera in colmap_model.read_views(folder):
        distorted |= any(camera.distortion)
        pose = invert_rigid(image.cam_from_world)
        found[replace_undecodable(image.name)] = KnownCamera(
            pose, camera.intrinsics, (camera.width, camera.height)
        )
    note = "known cameras have lens distortion, which is left out: undistort the images to use all of them"
    return KnownCameras(by_name=found, notes=(note,) if distorted else ())


def _from_posed_set(posed: PosedSet) -> KnownCameras:
    poses = invert_rigid(posed.cam_from_world)
    intrinsics = [None] * len(posed) if posed.intrinsics is None else posed.intrinsics
    cameras = (KnownCamera(pose, matrix) for pose, matrix in zip(poses, intrinsics, strict=True))
    return KnownCameras(dict(zip(map(os.path.abspath, posed.images), cameras)), notes=posed.notes)


def _from_text(path: Path) -> KnownCameras:
    lines = lines_of(path)
    if len(lines) == 3 and all(len(words) == 3 for _, words in lines):
        return KnownCameras(for_all=KnownCamera(intrinsics=intrinsics_file(path)))
    names: list[str] = []
    rows: list[list[float]] = []
    for number, words in lines:
        name, values = (" ".join(words[:-16]), words[-16:])
        if len(words) < 16 or (bool(name) != bool(names) and rows):
            raise InputError(
                f"{path}: line {number} has {len(words)} words; expected 16 numbers (a row-major 4x4 "
                "camera-to-world matrix) on every line, or an image's name and 16 numbers on every line"
            )
        rows.append(numbers(values, path, number))
        if name:
            names.append(name)
    if not rows:
        raise InputError(f"{path}: holds no cameras; expected lines of 16 numbers")
    poses = invert_rigid(cameras_from_world_from_cam(pose_matrices(np.array(rows), path), str(path)))
    shared = intrinsics_file(path.parent / "intrinsics.txt")
    for_all = None if shared is None else KnownCamera(intrinsics=shared)
    cameras = tuple(KnownCamera(pose) for pose in poses)
    if not names:
        return KnownCameras(in_order=cameras, for_all=for_all)
    return KnownCameras(by_name=dict(zip(names, cameras, strict=True)), for_all=for_all)
