"""Strecha et al. (CVPR 2008): one `PICTURE.camera` a picture, as fountain-P11 and Herz-Jesu-P25 have it.

A file holds K (3 lines, pixel centres at whole numbers), a line of zeros, the world_from_cam rotation
(3 lines), the camera centre, and the width and height that K is for. Where the pictures have been resized,
K is scaled with them. Lengths are metres.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from ..errors import InputError
from .posed_set import PosedSet, cameras_from_world_from_cam
from .text_files import first_with_pictures, lines_of, numbers

FORMAT = "strecha"
LOOKS_FOR = "PICTURE.camera files in the folder or one below, beside the pictures or images/"
_SHAPE = (3, 3, 3, 3, 3, 3, 3, 3, 2)
_PICTURE_FOLDERS = ("images", "color", "rgb", ".")


def _camera_files(folder: Path) -> dict[str, Path]:
    files = sorted(folder.glob("*.camera")) or sorted(folder.glob("*/*.camera"))
    # "0000.jpg.camera" and "0000.camera" both belong to the picture 0000.
    return {Path(file.name.removesuffix(".camera")).stem: file for file in files}


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return bool(_camera_files(folder))


def read(folder: Path) -> PosedSet:
    """The set in the folder. Raises InputError where pictures and cameras do not belong together."""
    files = _camera_files(folder)
    pictures = first_with_pictures(folder, _PICTURE_FOLDERS)
    images = [picture for picture in pictures if picture.stem in files]
    if not images:
        raise InputError(f"{folder}: there are .camera files but no picture of their names; {LOOKS_FOR}")
    cameras = [_read_camera(files[image.stem], image) for image in images]
    notes: tuple[str, ...] = ()
    if len(images) < len(pictures):
        notes = (f"{len(pictures) - len(images)} pictures without a .camera file left out",)
    where = str(next(iter(files.values())).parent / "*.camera")
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(images),
        cam_from_world=cameras_from_world_from_cam(np.stack([pose for _, pose in cameras]), where),
        intrinsics=np.stack([intrinsics for intrinsics, _ in cameras]),
        notes=notes,
    )


def _read_camera(path: Path, image: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    """(intrinsics for the picture, world_from_cam)."""
    lines = lines_of(path)
    if tuple(len(words) for _, words in lines) != _SHAPE:
        raise InputError(f"{path}: expected K, zeros, rotation and centre as 8 lines of 3, then the size")
    rows = [numbers(words, path, line) for line, words in lines]
    intrinsics = np.array(rows[:3])
    intrinsics[:2, 2] += 0.5
    try:
        with Image.open(image) as picture:
            size = picture.size
    except OSError as error:
        raise InputError(f"{image}: cannot be read as a picture ({error})") from error
    scale = np.array(size) / np.array(rows[8])
    intrinsics[:2] *= scale[:, None]
    return intrinsics, np.concatenate([np.array(rows[4:7]), np.array(rows[7])[:, None]], axis=1)
