"""Strecha et al. (CVPR 2008): one `IMAGE.camera` an image, as fountain-P11 and Herz-Jesu-P25 have it.

A file holds K (3 lines, pixel centres at whole numbers), a line of zeros, the world_from_cam rotation
(3 lines), the camera centre, and the width and height that K is for. Where the images have been resized,
K is scaled with them. Lengths are metres.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from .dataset import Dataset
from .image_files import image_size, images_in
from .posed_set import PosedSet, counted_note, posed_set
from .text_files import half_pixel_centres, lines_of, numbers

_LAYOUT = "fountain-P11/images/0000.jpg with gt_dense_cameras/0000.jpg.camera"
_SHAPE = (3, 3, 3, 3, 3, 3, 3, 3, 2)


def _camera_files(folder: Path) -> dict[str, Path]:
    files = sorted(folder.glob("*.camera")) or sorted(folder.glob("*/*.camera"))
    # "0000.jpg.camera" and "0000.camera" both belong to the image 0000.
    return {Path(file.name.removesuffix(".camera")).stem: file for file in files}


def fits(folder: Path) -> bool:
    return bool(_camera_files(folder))


def read(folder: Path) -> PosedSet:
    files, found = _camera_files(folder), images_in(folder, "images", "color", "rgb", ".")
    images = [image for image in found if image.stem in files]
    if not images:
        raise InputError(f"{folder}: there are .camera files but no image of their names; {_LAYOUT}")
    intrinsics, world_from_cam = zip(*(_read_camera(files[image.stem], image) for image in images))
    where = next(iter(files.values())).parent / "*.camera"
    notes = counted_note(len(found) - len(images), "images without a .camera file left out")
    return posed_set(folder, images, np.stack(world_from_cam), where, np.stack(intrinsics), notes=notes)


def _read_camera(path: Path, image: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    """(intrinsics for the image, world_from_cam)."""
    lines = lines_of(path)
    if tuple(len(words) for _, words in lines) != _SHAPE:
        raise InputError(f"{path}: expected K, zeros, rotation and centre as 8 lines of 3, then the size")
    rows = [numbers(words, path, line) for line, words in lines]
    intrinsics = half_pixel_centres(np.array(rows[:3]))
    intrinsics[:2] *= (np.array(image_size(image)) / np.array(rows[8]))[:, None]
    return intrinsics, np.concatenate([np.array(rows[4:7]), np.array(rows[7])[:, None]], axis=1)


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "*"), ("", ".")),
    source="openMVG/SfM_quality_evaluation",
)
