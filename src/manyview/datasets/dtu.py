"""DTU (Jensen et al., CVPR 2014) in MVSNet's layout: `images/`, `cams/00000000_cam.txt`, depth and masks.

A camera file holds `extrinsic` with a 4x4 cam_from_world matrix in millimetres, and `intrinsic` with a 3x3
matrix for pixel centres at whole numbers. Depth (`depths/` as .npy or .pfm) is in millimetres; where
`binary_masks/` exists, depth counts inside the mask eroded by 10 x 10 pixels, as in pi3's evaluation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .dataset import Dataset
from .depth_files import MaskedDepth
from .image_files import some_images_in
from .posed_set import PosedSet, posed_set
from .text_files import half_pixel_centres, lines_of, numbers

_LAYOUT = (
    "scan1/images/00000000.jpg with cams/00000000_cam.txt, depths/00000000.npy and binary_masks/00000000.png"
)
_ERODED = 10


def fits(folder: Path) -> bool:
    return any((folder / "cams").glob("*_cam.txt"))


def read(folder: Path) -> PosedSet:
    images = some_images_in(folder, ("images", "image"), _LAYOUT)
    intrinsics, poses = zip(*(camera_file(folder / "cams" / f"{image.stem}_cam.txt") for image in images))
    depths, masks = zip(*(_depth_of(folder, image.stem) for image in images))
    return posed_set(
        folder,
        images,
        invert_rigid(np.stack(poses)),
        folder / "cams",
        np.stack(intrinsics),
        MaskedDepth.existing(depths, masks=masks, erosion=_ERODED),
        unit="mm",
    )


def _depth_of(folder: Path, stem: str) -> tuple[Path | None, Path | None]:
    depths = (folder / "depths" / f"{stem}{suffix}" for suffix in (".npy", ".pfm"))
    mask = folder / "binary_masks" / f"{stem}.png"
    return next((path for path in depths if path.is_file()), None), mask if mask.is_file() else None


def camera_file(
    path: Path, expected: str = _LAYOUT
) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"]]:
    """(intrinsics with pixel centres at +0.5, cam_from_world)."""
    if not path.is_file():
        raise InputError(f"{path}: is missing; expected {expected}")
    lines = lines_of(path)
    heads = {
        words[0]: place for place, (_, words) in enumerate(lines) if words[0] in ("extrinsic", "intrinsic")
    }
    try:
        pose, k = (
            np.array([numbers(words, path, line) for line, words in lines[heads[name] + 1 :][:rows]])
            for name, rows in (("extrinsic", 4), ("intrinsic", 3))
        )
    except KeyError as error:
        raise InputError(f"{path}: has no line {error}; expected a camera in MVSNet's layout") from error
    if pose.shape != (4, 4) or k.shape != (3, 3):
        raise InputError(f"{path}: expected a 4x4 extrinsic and a 3x3 intrinsic matrix")
    return half_pixel_centres(k), pose[:3]


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "scan*"),),
    source="DTU MVS in MVSNet's layout",
    splits={
        "test22": "scan1 scan4 scan9 scan10 scan11 scan12 scan13 scan15 scan23 scan24 scan29 scan32 scan33 "
        "scan34 scan48 scan49 scan62 scan75 scan77 scan110 scan114 scan118"
    },
)
