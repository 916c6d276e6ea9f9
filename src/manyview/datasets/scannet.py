"""ScanNet (Dai et al., CVPR 2017) as its exporter writes a scan: `color/`, `depth/`, `pose/`, `intrinsic/`.

`pose/12.txt` is a 4x4 world_from_cam matrix of the colour camera in metres, not finite where tracking was
lost; depth is 16-bit millimetres, registered to the colour, 0 for no measurement. Files are numbered.
`NAME_vh_clean_2.ply`, where it lies beside, is the scan's mesh.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .posed_set import DepthFiles, PosedSet, cameras_from_world_from_cam
from .text_files import number_table, pictures_in

FORMAT = "scannet"
LOOKS_FOR = "color/0.jpg with pose/0.txt (and depth/0.png, intrinsic/intrinsic_color.txt)"


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return (folder / "pose").is_dir() and (folder / "color").is_dir()


def read(folder: Path) -> PosedSet:
    """The scan in the folder. Raises InputError for a picture without a pose or a pose that cannot be."""
    pictures = pictures_in(folder / "color")
    if not pictures:
        raise InputError(f"{folder / 'color'}: holds no pictures; expected {LOOKS_FOR}")
    images, poses = [], []
    for picture in pictures:
        path = folder / "pose" / f"{picture.stem}.txt"
        if not path.is_file():
            raise InputError(f"{path}: is missing beside {picture.name}; the export is not complete")
        pose = number_table(path, 4)
        if pose.shape != (4, 4):
            raise InputError(f"{path}: expected a 4x4 matrix, found {len(pose)} lines")
        if np.isfinite(pose).all():
            images.append(picture)
            poses.append(pose[:3])
    if not images:
        raise InputError(f"{folder / 'pose'}: not one pose is finite")
    depth = tuple(path if (path := folder / "depth" / f"{i.stem}.png").is_file() else None for i in images)
    lost = len(pictures) - len(images)
    mesh = folder / f"{folder.resolve().name}_vh_clean_2.ply"
    intrinsics = _intrinsics(folder / "intrinsic" / "intrinsic_color.txt")
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(images),
        cam_from_world=cameras_from_world_from_cam(np.stack(poses), f"{folder}/pose"),
        intrinsics=None if intrinsics is None else np.repeat(intrinsics[None], len(images), 0),
        depth=DepthFiles(depth, 1000.0) if any(depth) else None,
        notes=(f"{lost} frames without a finite pose left out",) if lost else (),
        cloud=mesh if mesh.is_file() else None,
    )


def _intrinsics(path: Path) -> np.ndarray | None:
    """3x3 with pixel centres at +0.5, from the 4x4 of the exporter (centres at whole numbers)."""
    if not path.is_file():
        return None
    matrix = number_table(path, 4)[:3, :3].copy()
    matrix[:2, 2] += 0.5
    return matrix
