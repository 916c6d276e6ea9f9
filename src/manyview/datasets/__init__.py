"""Data sets of posed images: one file for each, with its layout on disk and its reader.

To add one, write a module here that defines `DATASET` (see `dataset.Dataset`) and list it in `_LISTED`.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InputError, UsageError
from ..files.naming import suggestion
from ..files.paths import user_path
from .dataset import Dataset, Scene

if TYPE_CHECKING:
    from .posed_set import PosedSet

__all__ = ["TITLES", "Dataset", "Scene", "dataset_named", "dataset_of", "read_posed_set"]

# Name, title, module. A folder that fits several formats is read by the first.
_LISTED = (
    ("plain", "images with poses.txt", "plain"),
    ("7-scenes", "7-Scenes", "seven_scenes"),
    ("kitti", "KITTI odometry", "kitti"),
    ("bonn", "Bonn RGB-D Dynamic", "bonn"),
    ("tum", "TUM RGB-D", "tum"),
    ("strecha", "Strecha", "strecha"),
    ("nrgbd", "Neural RGB-D", "nrgbd"),
    ("scannet", "ScanNet", "scannet"),
    ("scannet++", "ScanNet++", "scannetpp"),
    ("hiroom", "HiRoom", "hiroom"),
    ("dtu", "DTU", "dtu"),
    ("dtu-64", "DTU with 64 views", "dtu64"),
    ("eth3d", "ETH3D", "eth3d"),
    ("tanks", "Tanks and Temples", "tanks"),
    ("imc", "Image Matching Challenge", "imc"),
    ("colmap", "COLMAP models", "colmap"),
    ("sintel", "MPI Sintel", "sintel"),
    ("realestate10k", "RealEstate10K", "realestate"),
    ("co3d", "CO3Dv2", "co3d"),
    ("waymo", "Waymo Open", "waymo"),
    ("nyu", "NYU-v2", "nyu"),
    ("kitti-depth", "KITTI depth", "kitti_depth"),
    ("spatialbench", "SpatialBench", "spatialbench"),
)
TITLES = {name: title for name, title, _ in _LISTED}
"""Title of every data set by its name; no reader is imported before it is used, so that help is quick."""


@cache
def dataset_named(name: str) -> Dataset:
    """The data set of a name in `TITLES`. Raises UsageError for another one."""
    for listed, title, module in _LISTED:
        if listed == name:
            dataset: Dataset = import_module(f".{module}", __name__).DATASET
            return dataclasses.replace(dataset, name=name, title=title)
    raise UsageError(f"there is no dataset {name!r}; choose one of {', '.join(TITLES)}")


def dataset_of(folder: Path) -> Dataset | None:
    """The data set whose format the folder has, None for a folder without cameras of a known format."""
    return next((dataset for dataset in _with_cameras() if dataset.fits(folder)), None)


def read_posed_set(folder: str | Path) -> PosedSet:
    """The images and cameras in a folder of any format of `TITLES`; no image is decoded.

    Raises:
        InputError: The folder fits no format (the message says what was looked for), its files contradict
            each other, or it has fewer than two views.
    """
    folder = user_path(folder)
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder{suggestion(folder)}; give images with their cameras")
    dataset = dataset_of(folder)
    if dataset is None:
        looked = "; ".join(f"{dataset.name}: {dataset.layout}" for dataset in _with_cameras())
        raise InputError(f"{folder}: holds no cameras of a known format; looked for {looked}")
    found = dataset.read(folder)
    if len(found) < 2:
        raise InputError(f"{folder}: has {len(found)} view with a camera; relative poses need at least 2")
    return found


def _with_cameras() -> list[Dataset]:
    return [dataset for name in TITLES if (dataset := dataset_named(name)).has_cameras]
