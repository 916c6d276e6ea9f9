"""Plain: `poses.txt` with 16 numbers a picture, the pictures, optionally `intrinsics.txt` and `depth/`.

A line is a 4x4 row-major world_from_cam (camera-to-world) matrix, in the natural order of the picture
names. `intrinsics.txt` is 3x3 for pixel centres at whole numbers (OpenCV's); depth is 16-bit
millimetres of the same names, 0 for no measurement, registered to the picture.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .posed_set import DepthFiles, PosedSet, cameras_from_world_from_cam
from .text_files import first_line_words, first_with_pictures, intrinsics_file, number_table, pose_matrices

FORMAT = "plain"
LOOKS_FOR = "poses.txt with 16 numbers a line beside color/, rgb/, gray/ or images/"
PICTURE_FOLDERS = ("color", "rgb", "images", "image", "gray", ".")


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return first_line_words(folder / "poses.txt") == 16


def read(folder: Path) -> PosedSet:
    """The set in the folder. Raises InputError where files contradict each other."""
    table = number_table(folder / "poses.txt", 16)
    images = first_with_pictures(folder, PICTURE_FOLDERS)
    if len(images) != len(table):
        raise InputError(
            f"{folder}: poses.txt has {len(table)} cameras and there are {len(images)} pictures in "
            f"{images[0].parent if images else ', '.join(PICTURE_FOLDERS)}; expected one camera a picture"
        )
    intrinsics = intrinsics_file(folder / "intrinsics.txt")
    depth = tuple(path if (path := folder / "depth" / f"{i.stem}.png").is_file() else None for i in images)
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(images),
        cam_from_world=cameras_from_world_from_cam(
            pose_matrices(table, folder / "poses.txt"), str(folder / "poses.txt")
        ),
        intrinsics=None if intrinsics is None else np.repeat(intrinsics[None], len(images), 0),
        depth=DepthFiles(depth, 1000.0) if any(depth) else None,
    )
