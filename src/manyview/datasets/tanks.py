"""Tanks and Temples, training set (Knapitsch et al., SIGGRAPH 2017): images and `SCENE_COLMAP_SfM.log`.

An item of the log is a line of three numbers, the first of them the place of the image in the order of
names, and a 4x4 world_from_cam matrix (OpenCV axes) in the world of a COLMAP model. `SCENE_trans.txt` is
the 4x4 similarity from that world to the laser scan's, in metres; `SCENE.ply` are the scan's points.
Without the similarity lengths are COLMAP's. The crop volume (`SCENE.json`) is for comparing surfaces and
not read here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from .dataset import Dataset
from .image_files import images_in
from .posed_set import PosedSet, counted_note, posed_set
from .text_files import lines_of, numbers, square_matrix

_LAYOUT = "Barn/Barn_COLMAP_SfM.log with Barn_trans.txt, Barn.ply and images/000001.jpg"
_LOG, _TRANSFORM = "_COLMAP_SfM.log", "_trans.txt"


def _log_file(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(f"*{_LOG}"))), None)


def fits(folder: Path) -> bool:
    return _log_file(folder) is not None


def read(folder: Path) -> PosedSet:
    log = _log_file(folder)
    if log is None:
        raise InputError(f"{folder}: expected {_LAYOUT}")
    places, world_from_cam = _cameras(log)
    images = images_in(folder, "images", "image", "images_raw", ".")
    if max(places) >= len(images):
        raise InputError(
            f"{log}: has cameras for {max(places) + 1} images and there are {len(images)}; "
            f"expected all of them in {folder}/images/"
        )
    name = log.name.removesuffix(_LOG)
    transform = folder / f"{name}{_TRANSFORM}"
    aligned = transform.is_file()
    if aligned:
        world_from_cam = _transformed(world_from_cam, transform)
    return posed_set(
        folder,
        (images[place] for place in places),
        world_from_cam,
        log,
        notes=counted_note(len(images) - len(places), "images without a camera left out")
        + (() if aligned else (f"no {transform.name}: lengths are of COLMAP's own scale",)),
        unit="m" if aligned else "units",
        cloud=folder / f"{name}.ply" if aligned else None,
    )


def _cameras(log: Path) -> tuple[list[int], Float64[np.ndarray, "views 3 4"]]:
    """(places of the images, rising; their world_from_cam)."""
    lines = lines_of(log)
    heads = lines[::5]
    shape = [len(words) for _, words in lines]
    if not lines or shape != [3, 4, 4, 4, 4] * len(heads):
        raise InputError(f"{log}: expected items of a line of 3 numbers and a 4x4 matrix; download it again")
    places = [int(numbers(words[:1], log, line)[0]) for line, words in heads]
    if min(places) < 0 or len(set(places)) < len(places):
        raise InputError(f"{log}: does not name every image once; expected 0, 1, 2, ... before the matrices")
    rows = [numbers(words, log, line) for at, (line, words) in enumerate(lines) if at % 5]
    order = np.argsort(places)
    return [places[i] for i in order], np.array(rows).reshape(-1, 4, 4)[order, :3]


def _transformed(
    world_from_cam: Float64[np.ndarray, "views 3 4"], path: Path
) -> Float64[np.ndarray, "views 3 4"]:
    """Cameras in the scan's world: rotated by the similarity, centres moved by all of it."""
    matrix = square_matrix(path, 4)
    size = np.linalg.det(matrix[:3, :3])
    if size <= 0:
        raise InputError(f"{path}: expected a 4x4 similarity; download it again")
    rotation = matrix[:3, :3] / np.cbrt(size) @ world_from_cam[:, :, :3]
    centres = world_from_cam[:, :, 3] @ matrix[:3, :3].T + matrix[:3, 3]
    return np.concatenate([rotation, centres[:, :, None]], axis=-1)


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "*"), ("training", "*"), ("TrainingSet", "*")),
    source="tanksandtemples.org, training set: images, camera poses, alignment, ground truth",
    splits={"training": "Barn Caterpillar Church Courthouse Ignatius Meetingroom Truck"},
)
