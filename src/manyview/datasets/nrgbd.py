"""NRGBD (Azinovic et al., CVPR 2022): `images/img0.png`, `depth/depth0.png`, and `poses.txt` of 4x4 blocks.

Four lines a frame are its world_from_cam matrix with OpenGL axes (y up, z backwards), in metres; frames whose
matrix is not finite have no camera. Depth is 16-bit millimetres, 0 and beyond 10 m no measurement. Synthetic
scenes of f = 554.256, c = (320, 240) at 640x480; `focal.txt` is read where it is there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .posed_set import DepthFiles, PosedSet, cameras_from_world_from_cam
from .text_files import first_line_words, number_table, pictures_in

FORMAT = "nrgbd"
LOOKS_FOR = "poses.txt with 4 numbers a line (four lines a frame) beside images/ and depth/"
_FOCAL = 554.2562584220408


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return first_line_words(folder / "poses.txt") == 4 and (folder / "images").is_dir()


def read(folder: Path) -> PosedSet:
    """The scene in the folder. Raises InputError where pictures and cameras do not belong together."""
    table = number_table(folder / "poses.txt", 4)
    images = pictures_in(folder / "images")
    if len(table) != 4 * len(images):
        raise InputError(
            f"{folder}: poses.txt has {len(table)} lines and images/ {len(images)} pictures; expected "
            "4 lines a picture"
        )
    matrices = table.reshape(-1, 4, 4)[:, :3]
    finite = np.flatnonzero(np.isfinite(matrices).all((1, 2)))
    if not len(finite):
        raise InputError(f"{folder / 'poses.txt'}: not one pose is finite")
    # OpenGL cameras look along -z with y up: the second and third column change sign.
    world_from_cam = matrices[finite] * np.array([1.0, -1.0, -1.0, 1.0])
    depths = {path.stem.removeprefix("depth"): path for path in pictures_in(folder / "depth")}
    paths = tuple(depths.get(images[i].stem.removeprefix("img")) for i in finite)
    focal = float(number_table(folder / "focal.txt", 1)[0, 0]) if (folder / "focal.txt").is_file() else _FOCAL
    intrinsics = np.array([[focal, 0, 320.0], [0, focal, 240.0], [0, 0, 1]])
    lost = len(images) - len(finite)
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(images[i] for i in finite),
        cam_from_world=cameras_from_world_from_cam(world_from_cam, str(folder / "poses.txt")),
        intrinsics=np.repeat(intrinsics[None], len(finite), 0),
        depth=DepthFiles(paths, 1000.0, farthest=10.0) if any(paths) else None,
        notes=(f"{lost} frames without a finite pose left out",) if lost else (),
    )
