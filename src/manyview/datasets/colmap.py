"""A folder with a COLMAP model, text or binary, in `sparse/0/`, `sparse/` or itself, beside `images/`.

Its cameras are cam_from_world with OpenCV axes, up to a scale that structure from motion does not know. Where
images have been resized, intrinsics are scaled with them; distortion is left out of them, with a note.
`depth/NAME.npy` may hold the z-depth of `images/NAME.jpg` in the model's unit, 0 where there is none.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .colmap_model import ColmapCamera, ColmapImage, model_folder, read_views, views_with_images
from .dataset import Dataset
from .image_files import image_size
from .posed_set import DepthFiles, PosedSet, counted_note, posed_set

_LAYOUT = "SCENE/sparse/0/cameras.bin and images.bin (or .txt) with SCENE/images/"


def fits(folder: Path) -> bool:
    return model_folder(folder) is not None


def read(folder: Path) -> PosedSet:
    place = model_folder(folder)
    if place is None:
        raise InputError(f"{folder}: holds no COLMAP model; expected {_LAYOUT}")
    views = read_views(place)
    found = (views_with_images(views, folder / name, place) for name in ("images", "color", "rgb", "."))
    there = next(filter(None, found), None)
    if there is None:
        raise InputError(f"{folder}: none of the images of {place} is there; expected {_LAYOUT}")
    depth = DepthFiles.existing(
        folder / "depth" / PurePath(image.name).with_suffix(".npy") for _, image, _ in there
    )
    return model_set(folder, place, len(views), there, depth=depth, unit="units")


def model_set(
    folder: Path,
    place: Path,
    total: int,
    there: Sequence[tuple[Path, ColmapImage, ColmapCamera]],
    **options: Any,
) -> PosedSet:
    """The images that are there, of `total` in the model at `place`; `options` are those of `posed_set`."""
    intrinsics = []
    for path, _, camera in there:
        width, height = image_size(path)
        scale = np.array([width / camera.width, height / camera.height, 1.0])
        intrinsics.append(camera.intrinsics * scale[:, None])
    distorted = any(any(camera.distortion) for _, _, camera in there)
    bare = ("images are distorted; intrinsics are given without distortion",) if distorted else ()
    return posed_set(
        folder,
        (path for path, _, _ in there),
        invert_rigid(np.stack([image.cam_from_world for _, image, _ in there])),
        place,
        np.stack(intrinsics),
        notes=counted_note(total - len(there), "images of the model are not there") + bare,
        **options,
    )


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "*"), ("", ".")),
    source="your own reconstructions",
)
