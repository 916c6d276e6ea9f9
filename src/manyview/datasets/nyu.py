"""NYU-v2 (Silberman et al., ECCV 2012): single images with depth, as papers on depth prepare it.

`val/nyu_images/NAME.png` and `val/nyu_depths/NAME.npy` (metres, 0 for no measurement), the 654 official
validation images that MonST3R's preparation writes from `val/official/NAME.h5`. Each image is a scene of one
frame. There are neither cameras nor intrinsics in these files: `cam_from_world` is NaN, and figures of
cameras do not exist.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .depth_files import DepthFiles
from .posed_set import PosedSet

_LAYOUT = (
    "val/nyu_images/NAME.png with val/nyu_depths/NAME.npy (MonST3R's preparation of val/official/NAME.h5)"
)


def fits(image: Path) -> bool:
    """Whether this is one of the images."""
    return image.suffix == ".png" and image.parent.name == "nyu_images" and image.is_file()


def read(image: Path) -> PosedSet:
    depth = image.parent.parent / "nyu_depths" / f"{image.stem}.npy"
    if not depth.is_file():
        raise InputError(f"{depth}: is missing; expected {_LAYOUT}")
    return PosedSet(
        name=image.stem,
        images=(image,),
        cam_from_world=np.full((1, 3, 4), np.nan),
        depth=DepthFiles((depth,)),
    )


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=tuple((f"{place}nyu_images", "*.png") for place in ("val/", "nyu-v2/val/", "nyuv2/val/", "")),
    source="NYU Depth V2, validation images as MonST3R prepares them",
    scene_name=lambda path: Path(path).stem,
    has_cameras=False,
)
