"""Pictures with known cameras, as datasets store them: one module a format, told apart by their files."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError
from ..files.naming import suggestion
from . import (
    bonn,
    co3d,
    colmap,
    dtu,
    eth3d,
    imc,
    kitti,
    nrgbd,
    plain,
    realestate,
    scannet,
    seven_scenes,
    sintel,
    strecha,
    tanks,
    tum,
)
from .dataset import Dataset, Scene
from .known import DATASETS, dataset_named
from .posed_set import DepthFiles, PosedSet
from .splits import listed_splits, split_scenes

__all__ = [
    "DATASETS",
    "READERS",
    "Dataset",
    "DepthFiles",
    "PosedSet",
    "Scene",
    "dataset_named",
    "listed_splits",
    "read_posed_set",
    "split_scenes",
]

READERS = (
    plain,
    seven_scenes,
    kitti,
    bonn,
    tum,
    strecha,
    nrgbd,
    scannet,
    dtu,
    eth3d,
    tanks,
    imc,
    colmap,
    sintel,
    realestate,
    co3d,
)
"""In the order they are asked; a folder that fits several is read by the first."""


def read_posed_set(folder: str | Path) -> PosedSet:
    """The pictures and cameras in a folder of any format in `READERS`; nothing is decoded.

    Raises InputError for a folder that fits none, naming what was looked for, or whose files contradict
    each other, and for fewer than two views.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"'{folder}' is no folder{suggestion(folder)}; give pictures with their cameras")
    reader = next((reader for reader in READERS if reader.fits(folder)), None)
    if reader is None:
        looked = "; ".join(f"{reader.FORMAT}: {reader.LOOKS_FOR}" for reader in READERS)
        raise InputError(f"{folder}: holds no cameras of a known format; looked for {looked}")
    found = reader.read(folder)
    if len(found) < 2:
        raise InputError(f"{folder}: has {len(found)} view with a camera; relative poses need at least 2")
    return found
