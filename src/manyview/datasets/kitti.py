"""KITTI odometry (Geiger et al., CVPR 2012): `poses.txt` with 12 numbers a picture.

A line is the 3x4 row-major world_from_cam matrix of the left grey camera (camera 0), in metres. The
pictures are `image_0` (or any plain folder of grey ones), else `image_2`, whose cameras are moved by the
offset in `calib.txt`. In the official layout the poses of `sequences/07` are `poses/07.txt`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from .posed_set import PosedSet, cameras_from_world_from_cam
from .text_files import first_line_words, lines_of, number_table, numbers, pictures_in

FORMAT = "kitti"
LOOKS_FOR = "poses.txt (or ../../poses/NAME.txt) with 12 numbers a line beside image_0/ or image_2/"
_FOLDERS = {"image_0": 0, "image_2": 2, "gray": 0, "color": 2}
"""Sub-folder: number of its camera."""


def _poses_file(folder: Path) -> Path | None:
    own = folder.resolve()
    places = (folder / "poses.txt", own.parent.parent / "poses" / f"{own.name}.txt")
    return next((path for path in places if first_line_words(path) == 12), None)


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return _poses_file(folder) is not None


def read(folder: Path) -> PosedSet:
    """The sequence in the folder. Raises InputError where files contradict each other."""
    path = _poses_file(folder)
    if path is None:
        raise InputError(f"{folder}: expected {LOOKS_FOR}")
    world_from_cam0 = number_table(path, 12).reshape(-1, 3, 4)
    name = next((name for name in _FOLDERS if pictures_in(folder / name)), None)
    if name is None:
        raise InputError(f"{folder}: {path.name} is there but no pictures; expected {', '.join(_FOLDERS)}")
    images = pictures_in(folder / name)
    if len(images) != len(world_from_cam0):
        raise InputError(
            f"{path}: has {len(world_from_cam0)} cameras and {name} has {len(images)} pictures; "
            "expected one camera a picture"
        )
    projection = _projection(folder / "calib.txt", _FOLDERS[name])
    world_from_cam, intrinsics = world_from_cam0, None
    notes: tuple[str, ...] = ()
    if projection is not None:
        one = projection[:, :3].copy()
        # P = K [I | t] with t the offset of camera 0's origin seen from this one.
        offset = np.linalg.inv(one) @ projection[:, 3]
        world_from_cam = world_from_cam0.copy()
        world_from_cam[:, :, 3] -= world_from_cam0[:, :, :3] @ offset
        one[:2, 2] += 0.5
        intrinsics = np.repeat(one[None], len(images), 0)
    elif _FOLDERS[name] == 2:
        notes = ("no calib.txt: cameras are those of the grey camera, 6 cm beside",)
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(images),
        cam_from_world=cameras_from_world_from_cam(world_from_cam, str(path)),
        intrinsics=intrinsics,
        notes=notes,
    )


def _projection(path: Path, camera: int) -> Float64[np.ndarray, "3 4"] | None:
    if not path.is_file():
        return None
    for line, words in lines_of(path):
        if words[0] == f"P{camera}:":
            values = numbers(words[1:], path, line)
            if len(values) != 12:
                raise InputError(f"{path}: line {line} has {len(values)} numbers after its name, expected 12")
            return np.array(values).reshape(3, 4)
    return None
