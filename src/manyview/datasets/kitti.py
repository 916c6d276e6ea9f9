"""KITTI odometry (Geiger et al., CVPR 2012): `poses.txt` with 12 numbers an image.

A line is the 3x4 row-major world_from_cam matrix of the left grey camera (camera 0), in metres. The images
are `image_0` (or any plain folder of grey ones), else `image_2`, whose cameras are moved by the offset in
`calib.txt`. In the official layout the poses of `sequences/07` are `poses/07.txt`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from .dataset import Dataset
from .image_files import images_in
from .posed_set import PosedSet, posed_set
from .text_files import first_line_words, half_pixel_centres, lines_of, number_table, numbers

_LAYOUT = "sequences/00/image_2/000000.png (or image_0/) with poses/00.txt and sequences/00/calib.txt"
_FOLDERS = {"image_0": 0, "image_2": 2, "gray": 0, "color": 2}
"""Sub-folder: number of its camera."""


def _poses_file(folder: Path) -> Path | None:
    sequence = folder.resolve()
    places = (folder / "poses.txt", sequence.parent.parent / "poses" / f"{sequence.name}.txt")
    return next((path for path in places if first_line_words(path) == 12), None)


def fits(folder: Path) -> bool:
    return _poses_file(folder) is not None


def read(folder: Path) -> PosedSet:
    path = _poses_file(folder)
    name = next((name for name in _FOLDERS if images_in(folder / name)), None)
    if path is None or name is None:
        raise InputError(f"{folder}: holds no poses or no images; expected {_LAYOUT}")
    world_from_cam, images = number_table(path, 12).reshape(-1, 3, 4), images_in(folder / name)
    if len(images) != len(world_from_cam):
        raise InputError(
            f"{path}: has {len(world_from_cam)} cameras and {name} has {len(images)} images; "
            "expected one camera an image"
        )
    projection = _projection(folder / "calib.txt", _FOLDERS[name])
    if projection is None:
        grey = "no calib.txt: cameras are those of the grey camera, 6 cm beside"
        return posed_set(folder, images, world_from_cam, path, notes=(grey,) if _FOLDERS[name] else ())
    # P = K [I | t] with t the offset of camera 0's origin seen from this one.
    offset = np.linalg.inv(projection[:, :3]) @ projection[:, 3]
    moved = world_from_cam.copy()
    moved[:, :, 3] -= world_from_cam[:, :, :3] @ offset
    return posed_set(folder, images, moved, path, half_pixel_centres(projection[:, :3]))


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


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("sequences", "[0-9][0-9]"), ("dataset/sequences", "[0-9][0-9]")),
    source="KITTI visual odometry",
    splits={"training": "00 01 02 03 04 05 06 07 08 09 10"},
)
