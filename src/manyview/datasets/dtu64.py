"""DTU-64, the scans with 64 views by which Depth Anything 3 compares poses (DA3-BENCH); no depth.

`SCAN/image/00000000.png` to 63; `Cameras/00000000_cam.txt` beside the scans (MVSNet's files, millimetres) are
the same for all of them. The image of index 33 comes first, as there; the others follow in order. Of the
layout the benchmark's reader is known, not a download.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .dataset import Dataset
from .dtu import camera_file
from .image_files import images_in, some_images_in
from .posed_set import PosedSet, posed_set

_LAYOUT = "scan24/image/00000000.png with Cameras/00000000_cam.txt beside the scans"
_FIRST = 33


def _cameras(scan: Path) -> Path:
    return scan.resolve().parent / "Cameras"


def fits(folder: Path) -> bool:
    return any(_cameras(folder).glob("*_cam.txt")) and bool(images_in(folder / "image"))


def read(folder: Path) -> PosedSet:
    images = some_images_in(folder, ("image",), _LAYOUT)
    named = [image for image in images if not image.stem.isdecimal()]
    if named:
        raise InputError(f"{named[0]}: expected a number for a name, as in {_LAYOUT}")
    if len(images) > _FIRST:
        images.insert(0, images.pop(_FIRST))
    place = _cameras(folder)
    intrinsics, poses = zip(*(camera_file(place / f"{int(i.stem):08}_cam.txt", _LAYOUT) for i in images))
    return posed_set(folder, images, invert_rigid(np.stack(poses)), place, np.stack(intrinsics), unit="mm")


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "scan*"), ("dtu64", "scan*")),
    source="DTU with 64 views, as in DA3-BENCH",
    splits={
        "da3": "scan24 scan37 scan40 scan55 scan63 scan65 scan69 scan83 scan97 scan105 scan114 scan118 "
        "scan122"
    },
)
