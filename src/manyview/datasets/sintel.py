"""MPI Sintel (Butler et al., ECCV 2012): `final/SEQ/frame_0001.png`, `camdata_left/SEQ/`, `depth/SEQ/`.

A .cam file is a float32 tag, then 3x3 intrinsics and a 3x4 cam_from_world matrix in float64; a .dpt file
holds z-depth in metres. The folder of a sequence is that of its images, of the pass "final" or "clean".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .dataset import Dataset
from .depth_files import DepthFiles
from .depth_maps import SINTEL_TAG
from .image_files import some_images_in
from .posed_set import PosedSet, posed_set
from .text_files import half_pixel_centres

_LAYOUT = "training/final/alley_2/frame_0001.png with training/camdata_left/ and training/depth/"


def _beside(folder: Path, kind: str) -> Path:
    sequence = folder.resolve()
    return sequence.parent.parent / kind / sequence.name


def fits(folder: Path) -> bool:
    return _beside(folder, "camdata_left").is_dir()


def read(folder: Path) -> PosedSet:
    images, place = some_images_in(folder, (), _LAYOUT), _beside(folder, "camdata_left")
    intrinsics, cam_from_world = zip(*(_camera(place / f"{image.stem}.cam") for image in images))
    depth = DepthFiles.existing(_beside(folder, "depth") / f"{image.stem}.dpt" for image in images)
    world_from_cam = invert_rigid(np.stack(cam_from_world))
    return posed_set(folder, images, world_from_cam, place, np.stack(intrinsics), depth)


def _camera(path: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    """(intrinsics with pixel centres at +0.5, cam_from_world)."""
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected {_LAYOUT}")
    data = path.read_bytes()
    if len(data) < 4 + 21 * 8 or np.frombuffer(data, "<f4", 1)[0] != SINTEL_TAG:
        raise InputError(f"{path}: is no camera of Sintel; copy it again")
    values = np.frombuffer(data, "<f8", 21, 4)
    return half_pixel_centres(values[:9].reshape(3, 3)), values[9:].reshape(3, 4).copy()


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("training/final", "*"), ("final", "*")),
    source="MPI Sintel, final pass with the depth and camera archives",
    splits={
        "fourteen": "alley_2 ambush_4 ambush_5 ambush_6 cave_2 cave_4 market_2 market_5 market_6 shaman_3 "
        "sleeping_1 sleeping_2 temple_2 temple_3"
    },
)
