"""ScanNet (Dai et al., CVPR 2017) as its exporter writes a scan: `color/`, `depth/`, `pose/`, `intrinsic/`.

`pose/12.txt` is a 4x4 world_from_cam matrix of the colour camera in metres, not finite where tracking was
lost; depth is 16-bit millimetres, registered to the colour, 0 for no measurement. Files are numbered.
`NAME_vh_clean_2.ply`, where it lies beside, is the scan's mesh.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .image_files import some_images_in
from .posed_set import DepthFiles, PosedSet, posed_set
from .text_files import intrinsics_file, square_matrix

_LAYOUT = (
    "scene0000_00/color/0.jpg with pose/0.txt, depth/0.png, intrinsic/intrinsic_color.txt and "
    "scene0000_00_vh_clean_2.ply"
)


def fits(folder: Path) -> bool:
    return (folder / "pose").is_dir() and (folder / "color").is_dir()


def read(folder: Path) -> PosedSet:
    images = some_images_in(folder, ("color",), _LAYOUT)
    world_from_cam = np.stack([_pose(folder / "pose" / f"{image.stem}.txt") for image in images])
    return posed_set(
        folder,
        images,
        world_from_cam,
        folder / "pose",
        intrinsics_file(folder / "intrinsic" / "intrinsic_color.txt", 4),
        DepthFiles.existing((folder / "depth" / f"{image.stem}.png" for image in images), 1000.0),
        cloud=folder / f"{folder.resolve().name}_vh_clean_2.ply",
        lost=~np.isfinite(world_from_cam).all((1, 2)),
    )


def _pose(path: Path) -> np.ndarray:
    if not path.is_file():
        raise InputError(f"{path}: is missing beside its image; the export is not complete")
    return square_matrix(path, 4)[:3]


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "scene*"), ("scans", "scene*"), ("scans_test", "scene*")),
    source="ScanNet, exported with its SensReader",
)
