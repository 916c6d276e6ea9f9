"""A folder with a COLMAP model, text or binary, in `sparse/0/`, `sparse/` or itself, beside `images/`.

Its cameras are cam_from_world with OpenCV axes, up to a scale that structure from motion does not know. Where
pictures have been resized, intrinsics are scaled with them; distortion is left out of them and told.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import InputError
from ..files.naming import natural_key
from ..geometry.unproject_np import invert_rigid
from .colmap_model import model_folder, read_model
from .posed_set import PosedSet, cameras_from_world_from_cam

FORMAT = "colmap"
LOOKS_FOR = "cameras and images (.txt or .bin) in sparse/0/, sparse/ or the folder, beside images/"
_MODELS = ("sparse/0", "sparse", ".", "colmap/sparse/0")
_PICTURES = ("images", "color", "rgb", ".")


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return model_folder(folder, _MODELS) is not None


def read(folder: Path) -> PosedSet:
    """The set in the folder, in natural order. InputError where no picture of the model is there."""
    place = model_folder(folder, _MODELS)
    if place is None:
        raise InputError(f"{folder}: holds no COLMAP model; expected {LOOKS_FOR}")
    cameras, images = read_model(place)
    pictures = next(
        (folder / name for name in _PICTURES if any((folder / name / i.name).is_file() for i in images)), None
    )
    if pictures is None:
        raise InputError(
            f"{folder}: no picture that {place / 'images.*'} names is there; expected {LOOKS_FOR}"
        )
    there = sorted(
        (image for image in images if (pictures / image.name).is_file()), key=lambda i: natural_key(i.name)
    )
    intrinsics = []
    for image in there:
        camera = cameras.get(image.camera)
        if camera is None:
            raise InputError(
                f"{place}: camera {image.camera} of {image.name} is missing; export the model again"
            )
        with Image.open(pictures / image.name) as picture:
            width, height = picture.size
        scale = np.array([width / camera.width, height / camera.height, 1.0])
        intrinsics.append(camera.intrinsics * scale[:, None])
    notes = []
    if len(there) < len(images):
        notes.append(f"{len(images) - len(there)} pictures of the model are not there")
    if any(any(camera.distortion) for camera in cameras.values()):
        notes.append("pictures are distorted; intrinsics are given without distortion")
    poses = np.stack([image.cam_from_world for image in there])
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(pictures / image.name for image in there),
        cam_from_world=cameras_from_world_from_cam(invert_rigid(poses), str(place)),
        intrinsics=np.stack(intrinsics),
        notes=tuple(notes),
        unit="units",
    )
