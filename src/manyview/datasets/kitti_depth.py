"""KITTI depth (Uhrig et al., 3DV 2017): sparse laser depth of raw drives, 16 bit, 256 a metre, 0: none.

A drive is `val/DRIVE_sync/proj_depth/groundtruth/image_02/` with its images in
`DATE/DRIVE_sync/image_02/data/` (or raw/..., or DRIVE_sync/image_02/data/ itself), or, as the papers on
video depth gather it, `image_gathered/DRIVE_sync_02/` with `groundtruth_depth_gathered/DRIVE_sync_02/`.
Views are the images that have depth. In the official selection of single images,
`val_selection_cropped/image/` with `groundtruth_depth/` and `intrinsics/`, each is a set of its own. There
are no cameras here (those of the raw drives are GPS tracks): `cam_from_world` is NaN, and figures of
cameras do not exist.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError
from .dataset import Dataset
from .depth_files import DepthFiles
from .image_files import images_in
from .posed_set import PosedSet
from .text_files import half_pixel_centres, number_table

_LAYOUT = (
    "val/2011_09_26_drive_0002_sync/proj_depth/groundtruth/image_02/0000000005.png with the raw "
    "drive's 2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000005.png"
)
_TRUTH = "proj_depth/groundtruth/image_02"
_DEPTH_PER_METRE = 256.0
_SELECTED = "_sync_image_"
"""In the names of selected images; those of their depth have `_groundtruth_depth_` for `_image_`."""


def _depth_folder(folder: Path) -> Path:
    drive = folder.resolve()
    gathered = drive.parent.parent / "groundtruth_depth_gathered" / drive.name
    return gathered if drive.parent.name == "image_gathered" else drive / _TRUTH


def _image_folders(folder: Path) -> list[Path]:
    drive = folder.resolve()
    if drive.parent.name == "image_gathered":
        return [drive]
    root = drive.parent.parent
    data = Path(drive.name, "image_02", "data")
    dated = Path(drive.name[:10]) / data
    return [drive.parent / data, root / dated, root / "raw" / dated, root.parent / dated]


def fits(folder: Path) -> bool:
    """Whether this is the folder of a drive, or a selected image."""
    if folder.suffix == ".png":
        return _SELECTED in folder.name and folder.parent.name == "image" and folder.is_file()
    return _depth_folder(folder).is_dir()


def read(folder: Path) -> PosedSet:
    if folder.suffix == ".png":
        return _selected(folder)
    truth = _depth_folder(folder)
    depth = {path.name.replace("groundtruth_depth", "image"): path for path in images_in(truth)}
    if not depth:
        raise InputError(f"{truth}: holds no depth; expected {_LAYOUT}")
    places = _image_folders(folder)
    images = next((found for place in places if (found := images_in(place))), [])
    by_stem = {image.stem: image for image in images}
    absent = [name for name in depth if Path(name).stem not in by_stem]
    if absent:
        raise InputError(
            f"{folder}: {len(absent)} of {len(depth)} images with depth are not there ({absent[0]}); "
            f"looked in {', '.join(str(place) for place in places)}; download the raw drive"
        )
    return PosedSet(
        name=folder.resolve().name,
        images=tuple(by_stem[Path(name).stem] for name in depth),
        cam_from_world=np.full((len(depth), 3, 4), np.nan),
        depth=DepthFiles(tuple(depth.values()), _DEPTH_PER_METRE),
    )


def _selected(image: Path) -> PosedSet:
    root = image.parent.parent
    depth = root / "groundtruth_depth" / image.name.replace("image", "groundtruth_depth", 1)
    if not depth.is_file():
        raise InputError(f"{depth}: is missing; expected groundtruth_depth/ of the selection beside image/")
    path = root / "intrinsics" / f"{image.stem}.txt"
    return PosedSet(
        name=scene_name(image.name),
        images=(image,),
        cam_from_world=np.full((1, 3, 4), np.nan),
        intrinsics=half_pixel_centres(number_table(path, 9).reshape(1, 3, 3)) if path.is_file() else None,
        depth=DepthFiles((depth,), _DEPTH_PER_METRE),
    )


def scene_name(name: str) -> str:
    """The drive: "2011_09_26_drive_0002" for ..._sync and ..._sync_02; with the frame's number for a selected
    image."""
    drive, _, frame = name.split("/")[-1].partition("_sync")
    number = frame.removeprefix("_image_").split("_")[0]
    return f"{drive}/{number}" if frame.startswith("_image_") else drive


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(
        ("val", "*_sync"),
        ("data_depth_annotated/val", "*_sync"),
        ("image_gathered", "*_sync*"),
        ("val_selection_cropped/image_gathered", "*_sync*"),
        ("depth_selection/val_selection_cropped/image_gathered", "*_sync*"),
        ("val_selection_cropped/image", f"*{_SELECTED}*.png"),
        ("depth_selection/val_selection_cropped/image", f"*{_SELECTED}*.png"),
    ),
    source="KITTI depth prediction, annotated depth of the validation drives and their raw images",
    splits={
        "val13": "2011_09_26_drive_0002 2011_09_26_drive_0005 2011_09_26_drive_0013 2011_09_26_drive_0020 "
        "2011_09_26_drive_0023 2011_09_26_drive_0036 2011_09_26_drive_0079 2011_09_26_drive_0095 "
        "2011_09_26_drive_0113 2011_09_28_drive_0037 2011_09_29_drive_0026 2011_09_30_drive_0016 "
        "2011_10_03_drive_0047"
    },
    scene_name=scene_name,
    has_cameras=False,
)
