"""ScanNet (Dai et al., CVPR 2017) as its exporter writes a scan: `color/`, `depth/`, `pose/`, `intrinsic/`.

`pose/12.txt` is a 4x4 world_from_cam matrix of the colour camera in metres, not finite where tracking was
lost; depth is 16-bit millimetres, 0 for no measurement, of a camera at the same place whose intrinsics are
`intrinsic_depth.txt` (without that file: the colour camera's). Files are numbered. `NAME_vh_clean_2.ply`,
where it lies beside, is the scan's mesh.

MonST3R's preparation, `color_90/frame_0000.jpg`, `depth_90/` and `pose_90.txt` with 16 numbers a frame (every
third frame of the scan, whether it has a camera or not, which CUT3R and pi3 use too; TTT3R's are the same
with other numbers, the largest is taken), is read where the exporter's folders are not there.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from .colmap_model import ColmapCamera
from .dataset import Dataset
from .depth_files import DepthFiles
from .image_files import image_size, some_images_in
from .lens_depth import LensDepth
from .posed_set import PosedSet, posed_set
from .text_files import intrinsics_file, number_table, square_matrix

_LAYOUT = (
    "scene0000_00/color/0.jpg with pose/0.txt, depth/0.png, intrinsic/intrinsic_color.txt and "
    "scene0000_00_vh_clean_2.ply"
)


_STRIDE = 3


def fits(folder: Path) -> bool:
    return _is_whole(folder) or _prepared(folder) is not None


def read(folder: Path) -> PosedSet:
    number = None if _is_whole(folder) else _prepared(folder)
    if number is None:
        images = some_images_in(folder, ("color",), _LAYOUT)
        where, depth = folder / "pose", folder / "depth"
        world_from_cam = np.stack([_pose(where / f"{image.stem}.txt") for image in images])
    else:
        images = some_images_in(folder, (f"color_{number}",), _LAYOUT)
        where, depth = folder / f"pose_{number}.txt", folder / f"depth_{number}"
        world_from_cam = number_table(where, 16).reshape(-1, 4, 4)[:, :3]
        if len(world_from_cam) != len(images):
            raise InputError(
                f"{where}: has {len(world_from_cam)} cameras and color_{number}/ {len(images)} images; "
                "expected one line an image"
            )
    intrinsics = intrinsics_file(folder / "intrinsic" / "intrinsic_color.txt", 4)
    found = posed_set(
        folder,
        images,
        world_from_cam,
        where,
        intrinsics,
        _depth(folder, images, [depth / f"{image.stem}.png" for image in images], intrinsics),
        cloud=folder / f"{folder.resolve().name}_vh_clean_2.ply",
        lost=~np.isfinite(world_from_cam).all((1, 2)),
    )
    if number is None:
        return found
    return dataclasses.replace(found, positions=tuple(range(0, _STRIDE * len(found), _STRIDE)))


def _is_whole(folder: Path) -> bool:
    return (folder / "pose").is_dir() and (folder / "color").is_dir()


def _prepared(folder: Path) -> int | None:
    """The largest N with `color_N/` and `pose_N.txt`."""
    ends = (path.name.removeprefix("color_") for path in folder.glob("color_*"))
    numbers = [int(end) for end in ends if end.isdecimal() and (folder / f"pose_{end}.txt").is_file()]
    return max(numbers, default=None)


def _depth(
    folder: Path, images: list[Path], paths: list[Path], intrinsics: Float64[np.ndarray, "3 3"] | None
) -> DepthFiles | None:
    """On the colour camera's pixels, each the depth at the place where the depth camera sees its ray."""
    own = intrinsics_file(folder / "intrinsic" / "intrinsic_depth.txt", 4)
    first = next((path for path in paths if path.is_file()), None)
    if own is None or intrinsics is None or first is None:
        return DepthFiles.existing(paths, 1000.0)
    size = image_size(first)
    cameras = _pinhole(intrinsics, image_size(images[0])), _pinhole(own, size)
    return LensDepth.existing(paths, 1000.0, cameras=(cameras,) * len(paths), most_width=size[0])


def _pinhole(k: Float64[np.ndarray, "3 3"], size: tuple[int, int]) -> ColmapCamera:
    return ColmapCamera("PINHOLE", *size, (k[0, 0], k[1, 1], k[0, 2], k[1, 2]))


def _pose(path: Path) -> Float64[np.ndarray, "3 4"]:
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
