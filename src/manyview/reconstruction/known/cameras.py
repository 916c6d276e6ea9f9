"""Known cameras from files: a COLMAP model, a folder of a posed data set, or text files of matrices.

Text files hold row-major 4x4 world_from_cam (camera-to-world, OpenCV axes) matrices, 16 numbers a line: one
line a picture in the order of the input, or behind the picture's name, which leaves out what is not known. A
3x3 matrix in `intrinsics.txt` beside it (or alone) is that of all pictures, for pixel centres at whole
numbers.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ...errors import InputError
from ...files.naming import suggestion

_COLMAP_FOLDERS = ("sparse/0", "sparse", ".", "colmap/sparse/0")


@dataclasses.dataclass(frozen=True)
class KnownCamera:
    """One picture's camera; None is unknown. `size` (width, height) is that of the intrinsics' picture."""

    world_from_cam: Float64[np.ndarray, "3 4"] | None = None
    intrinsics: Float64[np.ndarray, "3 3"] | None = None
    size: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True)
class KnownCameras:
    """Cameras by the name of the picture, or (`in_order`) one for each picture of the input in turn.

    `for_all` is what holds for every picture. `notes` are sentences for the user.
    """

    by_name: dict[str, KnownCamera] = dataclasses.field(default_factory=dict)
    in_order: tuple[KnownCamera, ...] = ()
    for_all: KnownCamera | None = None
    notes: tuple[str, ...] = ()


def read_known_cameras(path: Path) -> KnownCameras:
    """The cameras in a file or folder. Raises InputError for one that holds none."""
    from ...datasets import READERS, read_posed_set
    from ...datasets.colmap_model import model_folder

    path = path.expanduser()
    if path.is_file():
        return _from_text(path)
    if not path.is_dir():
        raise InputError(f"'{path}' is no file or folder{suggestion(path)}; give known cameras")
    model = model_folder(path, _COLMAP_FOLDERS)
    if model is not None:
        return _from_colmap(model)
    if any(reader.fits(path) for reader in READERS):
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
    from ...datasets.colmap_model import read_model
    from ...geometry.unproject_np import invert_rigid

    cameras, images = read_model(folder)
    found, distorted = {}, False
    for image in images:
        camera = cameras.get(image.camera)
        if camera is None:
            raise InputError(f"{folder}: camera {image.camera} of {image.name} is missing; export it again")
        distorted |= any(camera.distortion)
        pose = invert_rigid(image.cam_from_world[None])[0]
        found[image.name] = KnownCamera(pose, camera.intrinsics, (camera.width, camera.height))
    told = "known cameras have lens distortion, which is left out: undistort the pictures to use all of them"
    return KnownCameras(by_name=found, notes=(told,) if distorted else ())


def _from_posed_set(posed: object) -> KnownCameras:
    from ...datasets import PosedSet
    from ...geometry.unproject_np import invert_rigid

    assert isinstance(posed, PosedSet)
    poses = invert_rigid(posed.cam_from_world)
    return KnownCameras(
        by_name={
            os.path.abspath(image): KnownCamera(
                poses[i], None if posed.intrinsics is None else posed.intrinsics[i]
            )
            for i, image in enumerate(posed.images)
        },
        notes=posed.notes,
    )


def _from_text(path: Path) -> KnownCameras:
    from ...datasets.posed_set import cameras_from_world_from_cam
    from ...datasets.text_files import lines_of, numbers
    from ...geometry.unproject_np import invert_rigid

    lines = lines_of(path)
    if len(lines) == 3 and all(len(words) == 3 for _, words in lines):
        return KnownCameras(for_all=KnownCamera(intrinsics=_intrinsics(path)))
    names: list[str] = []
    rows: list[list[float]] = []
    for number, words in lines:
        name, values = (" ".join(words[:-16]), words[-16:])
        if len(words) < 16 or (bool(name) != bool(names) and rows):
            raise InputError(
                f"{path}: line {number} has {len(words)} words; expected 16 numbers (a row-major 4x4 "
                "camera-to-world matrix) on every line, or a picture's name and 16 numbers on every line"
            )
        rows.append(numbers(values, path, number))
        if name:
            names.append(name)
    if not rows:
        raise InputError(f"{path}: holds no cameras; expected lines of 16 numbers")
    table = np.array(rows).reshape(-1, 4, 4)
    if np.abs(table[:, 3] - [0, 0, 0, 1]).max() > 1e-6:
        raise InputError(f"{path}: expected row-major 4x4 matrices that end in 0 0 0 1")
    poses = invert_rigid(cameras_from_world_from_cam(table[:, :3], str(path)))
    beside = path.parent / "intrinsics.txt"
    for_all = KnownCamera(intrinsics=_intrinsics(beside)) if beside.is_file() else None
    cameras = tuple(KnownCamera(pose) for pose in poses)
    if not names:
        return KnownCameras(in_order=cameras, for_all=for_all)
    return KnownCameras(by_name=dict(zip(names, cameras, strict=True)), for_all=for_all)


def _intrinsics(path: Path) -> Float64[np.ndarray, "3 3"]:
    from ...datasets.text_files import number_table

    matrix = number_table(path, 3)
    if matrix.shape != (3, 3) or not (matrix[0, 0] > 0 and matrix[1, 1] > 0):
        raise InputError(f"{path}: expected a 3x3 matrix with focal lengths above zero")
    matrix[:2, 2] += 0.5
    return matrix
