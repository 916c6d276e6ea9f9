"""MPI Sintel (Butler et al., ECCV 2012): `final/SEQ/frame_0001.png`, `camdata_left/SEQ/`, `depth/SEQ/`.

A .cam file is a float32 tag, then 3x3 intrinsics and a 3x4 cam_from_world matrix in float64; a .dpt file
holds z-depth in metres. The folder of a sequence is that of its pictures, of the pass "final" or "clean".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .posed_set import DepthFiles, PosedSet, cameras_from_world_from_cam
from .text_files import pictures_in

FORMAT = "sintel"
LOOKS_FOR = "training/final/SEQ/frame_0001.png with training/camdata_left/SEQ/frame_0001.cam"
_TAG = np.float32(202021.25)


def _beside(folder: Path, kind: str) -> Path:
    own = folder.resolve()
    return own.parent.parent / kind / own.name


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return _beside(folder, "camdata_left").is_dir()


def read(folder: Path) -> PosedSet:
    """The sequence whose pictures are in the folder. InputError for a picture without a camera."""
    images = pictures_in(folder)
    cameras = [_camera(_beside(folder, "camdata_left") / f"{image.stem}.cam") for image in images]
    if not images:
        raise InputError(f"{folder}: holds no pictures; expected {LOOKS_FOR}")
    depth = tuple(
        path if (path := _beside(folder, "depth") / f"{i.stem}.dpt").is_file() else None for i in images
    )
    world_from_cam = invert_rigid(np.stack([pose for _, pose in cameras]))
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(images),
        cam_from_world=cameras_from_world_from_cam(world_from_cam, str(_beside(folder, "camdata_left"))),
        intrinsics=np.stack([intrinsics for intrinsics, _ in cameras]),
        depth=DepthFiles(depth, 1.0) if any(depth) else None,
    )


def _camera(path: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    """(intrinsics with pixel centres at +0.5, cam_from_world)."""
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected {LOOKS_FOR}")
    data = path.read_bytes()
    if len(data) < 4 + 21 * 8 or np.frombuffer(data, "<f4", 1)[0] != _TAG:
        raise InputError(f"{path}: is no camera of Sintel; copy it again")
    values = np.frombuffer(data, "<f8", 21, 4)
    intrinsics = values[:9].reshape(3, 3).copy()
    intrinsics[:2, 2] += 0.5
    return intrinsics, values[9:].reshape(3, 4).copy()
