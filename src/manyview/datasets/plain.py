"""Plain: `poses.txt` with 16 numbers an image, the images, optionally `intrinsics.txt` and `depth/`.

A line is a 4x4 row-major world_from_cam (camera-to-world) matrix, in the natural order of the image names.
`intrinsics.txt` is 3x3 for pixel centres at whole numbers (OpenCV's); depth is 16-bit millimetres of the same
names, 0 for no measurement, registered to the image.
"""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from .dataset import Dataset
from .depth_files import DepthFiles
from .image_files import images_in
from .posed_set import PosedSet, posed_set
from .text_files import first_line_words, intrinsics_file, number_table, pose_matrices

_IMAGE_FOLDERS = ("color", "rgb", "images", "image", "gray", ".")


def fits(folder: Path) -> bool:
    return first_line_words(folder / "poses.txt") == 16


def read(folder: Path) -> PosedSet:
    path = folder / "poses.txt"
    poses = pose_matrices(number_table(path, 16), path)
    images = images_in(folder, *_IMAGE_FOLDERS)
    if len(images) != len(poses):
        raise InputError(
            f"{folder}: poses.txt has {len(poses)} cameras and there are {len(images)} images in "
            f"{images[0].parent if images else ', '.join(_IMAGE_FOLDERS)}; expected one camera an image"
        )
    depth = DepthFiles.existing((folder / "depth" / f"{i.stem}.png" for i in images), 1000.0)
    return posed_set(folder, images, poses, path, intrinsics_file(folder / "intrinsics.txt"), depth)


DATASET = Dataset(
    fits,
    read,
    places=(("", "*"), ("", ".")),
    layout="SCENE/poses.txt (16 numbers a line) with color/, rgb/, gray/ or images/, intrinsics.txt, depth/",
    source="your own measurements",
)
