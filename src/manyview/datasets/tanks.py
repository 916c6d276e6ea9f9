"""Tanks and Temples, training set (Knapitsch et al., SIGGRAPH 2017): pictures and `SCENE_COLMAP_SfM.log`.

An item of the log is a line of three numbers, the first of them the place of the picture in the order of
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
from .posed_set import PosedSet, cameras_from_world_from_cam
from .text_files import first_with_pictures, lines_of, number_table, numbers

FORMAT = "tanks"
LOOKS_FOR = "SCENE_COLMAP_SfM.log (with SCENE_trans.txt) beside images/ or the pictures"
_LOG, _TRANSFORM = "_COLMAP_SfM.log", "_trans.txt"
_PICTURES = ("images", "image", "images_raw", ".")


def _log_file(folder: Path) -> Path | None:
    return next(iter(sorted(folder.glob(f"*{_LOG}"))), None)


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return _log_file(folder) is not None


def read(folder: Path) -> PosedSet:
    """The scene in the folder. InputError where the log is not whole or names pictures that are not there."""
    log = _log_file(folder)
    if log is None:
        raise InputError(f"{folder}: expected {LOOKS_FOR}")
    places, world_from_cam = _cameras(log)
    pictures = first_with_pictures(folder, _PICTURES)
    if not pictures or max(places) >= len(pictures):
        raise InputError(
            f"{log}: has cameras for {max(places) + 1} pictures and there are {len(pictures)}; "
            f"expected all of them in {folder}/images/"
        )
    name = log.name.removesuffix(_LOG)
    transform, scan = folder / f"{name}{_TRANSFORM}", folder / f"{name}.ply"
    aligned = transform.is_file()
    if aligned:
        world_from_cam = _moved(world_from_cam, transform)
    lost = len(pictures) - len(places)
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(pictures[place] for place in places),
        cam_from_world=cameras_from_world_from_cam(world_from_cam, str(log)),
        notes=(
            *((f"{lost} pictures without a camera left out",) if lost else ()),
            *(() if aligned else (f"no {transform.name}: lengths are of COLMAP's own scale",)),
        ),
        unit="m" if aligned else "units",
        cloud=scan if aligned and scan.is_file() else None,
    )


def _cameras(log: Path) -> tuple[list[int], Float64[np.ndarray, "views 3 4"]]:
    """(places of the pictures, rising; their world_from_cam)."""
    lines = lines_of(log)
    heads = lines[::5]
    shape = [len(words) for _, words in lines]
    if not lines or shape != [3, 4, 4, 4, 4] * len(heads):
        raise InputError(f"{log}: expected items of a line of 3 numbers and a 4x4 matrix; download it again")
    places = [int(numbers(words[:1], log, line)[0]) for line, words in heads]
    if min(places) < 0 or len(set(places)) < len(places):
        raise InputError(
            f"{log}: does not name every picture once; expected 0, 1, 2, ... before the matrices"
        )
    rows = [numbers(words, log, line) for at, (line, words) in enumerate(lines) if at % 5]
    order = np.argsort(places)
    return [places[i] for i in order], np.array(rows).reshape(-1, 4, 4)[order, :3]


def _moved(world_from_cam: Float64[np.ndarray, "views 3 4"], path: Path) -> Float64[np.ndarray, "views 3 4"]:
    """Cameras in the scan's world: turned by the similarity, centres moved by all of it."""
    matrix = number_table(path, 4)
    size = np.linalg.det(matrix[:3, :3]) if matrix.shape == (4, 4) else 0.0
    if size <= 0:
        raise InputError(f"{path}: expected a 4x4 similarity; download it again")
    rotation = matrix[:3, :3] / np.cbrt(size) @ world_from_cam[:, :, :3]
    centres = world_from_cam[:, :, 3] @ matrix[:3, :3].T + matrix[:3, 3]
    return np.concatenate([rotation, centres[:, :, None]], axis=-1)
