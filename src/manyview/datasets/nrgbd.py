"""NRGBD (Azinovic et al., CVPR 2022): `images/img0.png`, `depth/depth0.png`, and `poses.txt` of 4x4 blocks.

Four lines a frame are its world_from_cam matrix with OpenGL axes (y up, z backwards), in metres; frames whose
matrix is not finite have no camera. Depth is 16-bit millimetres, 0 and beyond 10 m no measurement. Synthetic
scenes of f = 554.256, c = (320, 240) at 640x480; `focal.txt` is read where it is there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .depth_files import DepthFiles
from .image_files import images_in
from .posed_set import PosedSet, posed_set
from .text_files import first_line_words, number_table

_FOCAL = 554.2562584220408


def fits(folder: Path) -> bool:
    return first_line_words(folder / "poses.txt") == 4 and (folder / "images").is_dir()


def read(folder: Path) -> PosedSet:
    path = folder / "poses.txt"
    table, images = number_table(path, 4), images_in(folder / "images")
    if len(table) != 4 * len(images):
        raise InputError(
            f"{folder}: poses.txt has {len(table)} lines and images/ {len(images)} images; expected "
            "4 lines an image"
        )
    # OpenGL cameras look along -z with y up: the second and third column change sign.
    world_from_cam = table.reshape(-1, 4, 4)[:, :3] * np.array([1.0, -1.0, -1.0, 1.0])
    depths = {path.stem.removeprefix("depth"): path for path in images_in(folder / "depth")}
    depth = (depths.get(image.stem.removeprefix("img")) for image in images)
    focal = float(number_table(folder / "focal.txt", 1)[0, 0]) if (folder / "focal.txt").is_file() else _FOCAL
    return posed_set(
        folder,
        images,
        world_from_cam,
        path,
        np.array([[focal, 0, 320.0], [0, focal, 240.0], [0, 0, 1]]),
        DepthFiles.existing(depth, 1000.0, farthest=10.0),
        lost=~np.isfinite(world_from_cam).all((1, 2)),
    )


DATASET = Dataset(
    fits,
    read,
    places=(("", "*"), ("neural_rgbd_data", "*")),
    layout="whiteroom/images/img0.png with depth/depth0.png and poses.txt (4 lines of 4 numbers a frame)",
    source="dazinovic/neural-rgbd-surface-reconstruction",
    splits={
        "nine": "breakfast_room complete_kitchen green_room grey_white_room kitchen morning_apartment "
        "staircase thin_geometry whiteroom"
    },
)
