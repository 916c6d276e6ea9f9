"""KITTI depth (Uhrig et al., 3DV 2017): sparse laser depth of raw drives, 16 bit, 256 a metre, 0: none.

A drive is `val/DRIVE_sync/proj_depth/groundtruth/image_02/` with its pictures in
`DATE/DRIVE_sync/image_02/data/` (or raw/..., or DRIVE_sync/image_02/data/ itself), or, as the papers on
video depth gather it, `image_gathered/DRIVE_sync_02/` with `groundtruth_depth_gathered/DRIVE_sync_02/`.
Views are the pictures that have depth. In the official selection of single pictures,
`val_selection_cropped/image/` with `groundtruth_depth/` and `intrinsics/`, each is a set of its own. There
are no cameras here (those of the raw drives are GPS tracks): `cam_from_world` is NaN, and figures of
cameras do not exist.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .posed_set import DepthFiles, PosedSet
from .text_files import number_table, pictures_in

FORMAT = "kitti-depth"
LOOKS_FOR = (
    "val/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/ with "
    "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/, or image_gathered/ with "
    "groundtruth_depth_gathered/"
)
_TRUTH = "proj_depth/groundtruth/image_02"
_DEPTH_PER_METRE = 256.0


_SELECTED = "_sync_image_"
"""In the names of selected pictures; those of their depth have `_groundtruth_depth_` for `_image_`."""


def _selected_depth(picture: Path) -> Path:
    return picture.parent.parent / "groundtruth_depth" / picture.name.replace("image", "groundtruth_depth", 1)


def _depth_folder(folder: Path) -> Path:
    own = folder.resolve()
    gathered = own.parent.parent / "groundtruth_depth_gathered" / own.name
    return gathered if own.parent.name == "image_gathered" else own / _TRUTH


def fits(folder: Path) -> bool:
    """Whether this is the folder of a drive, or a selected picture."""
    if folder.suffix == ".png":
        return _SELECTED in folder.name and folder.parent.name == "image" and folder.is_file()
    return _depth_folder(folder).is_dir()


def read(folder: Path) -> PosedSet:
    """The drive in the folder, or one selected picture. InputError where depth, or a picture of it, is not
    there."""
    if folder.suffix == ".png":
        return _selected(folder)
    depth = {
        path.name.replace("groundtruth_depth", "image"): path for path in pictures_in(_depth_folder(folder))
    }
    if not depth:
        raise InputError(f"{_depth_folder(folder)}: holds no depth; expected {LOOKS_FOR}")
    places = _picture_folders(folder)
    pictures = next((found for place in places if (found := pictures_in(place))), [])
    by_stem = {picture.stem: picture for picture in pictures}
    absent = [name for name in depth if Path(name).stem not in by_stem]
    if absent:
        raise InputError(
            f"{folder}: {len(absent)} of {len(depth)} pictures with depth are not there ({absent[0]}); "
            f"looked in {', '.join(str(place) for place in places)}; download the raw drive"
        )
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(by_stem[Path(name).stem] for name in depth),
        cam_from_world=np.full((len(depth), 3, 4), np.nan),
        depth=DepthFiles(tuple(depth.values()), _DEPTH_PER_METRE),
    )


def _selected(picture: Path) -> PosedSet:
    depth = _selected_depth(picture)
    if not depth.is_file():
        raise InputError(f"{depth}: is missing; expected groundtruth_depth/ of the selection beside image/")
    place = picture.parent.parent / "intrinsics" / f"{picture.stem}.txt"
    intrinsics = None
    if place.is_file():
        intrinsics = number_table(place, 9).reshape(1, 3, 3)
        intrinsics[:, :2, 2] += 0.5
    return PosedSet(
        name=scene_name(picture.name),
        format=FORMAT,
        images=(picture,),
        cam_from_world=np.full((1, 3, 4), np.nan),
        intrinsics=intrinsics,
        depth=DepthFiles((depth,), _DEPTH_PER_METRE),
    )


def scene_name(name: str) -> str:
    """The drive: "2011_09_26_drive_0002" for ..._sync and ..._sync_02; with the frame's number for a selected
    picture."""
    drive, _, frame = name.split("/")[-1].partition("_sync")
    number = frame.removeprefix("_image_").split("_")[0]
    return f"{drive}/{number}" if frame.startswith("_image_") else drive


def _picture_folders(folder: Path) -> list[Path]:
    own = folder.resolve()
    if own.parent.name == "image_gathered":
        return [own]
    root = own.parent.parent
    drive = Path(own.name[:10]) / own.name / "image_02" / "data"
    return [own / "image_02" / "data", root / drive, root / "raw" / drive, root.parent / drive]
