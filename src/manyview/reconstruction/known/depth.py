"""Known depth maps as files, one an image by the same name."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import numpy as np
from jaxtyping import Float64

from ...datasets import dataset_of, read_posed_set
from ...datasets.depth_files import DepthFiles
from ...datasets.depth_maps import read_depth_map, valid_depth
from ...errors import InputError
from ...files.naming import suggestion
from ...files.paths import resolve_inside, user_path
from ...files.schema import Positive, parse_json, read_regular
from ..inputs.views import ViewRecord

_SUFFIXES = (".npy", ".png", ".pfm", ".tif", ".tiff", ".dpt")
_PER_UNIT = 1000.0
"""Values a unit of length in maps of whole numbers: millimetres."""
_ASPECT_TOLERANCE = 1.15
"""Aspect ratios of an image and its map may differ by less: small maps are rounded to whole patches."""


class DepthFolder:
    """Depth maps of some images: `FOLDER/NAME_OF_THE_IMAGE.png` (.npy, .pfm, .tif, .dpt), or those of a posed
    data set.

    Args:
        folder: Where the maps are.
        per_unit: Values that are one unit of length; None: what `depth.json` of ManyView's export says, else
            1000 for maps of whole numbers and 1 for others.

    Raises:
        InputError: There is no such folder.
    """

    def __init__(self, folder: Path, per_unit: float | None = None) -> None:
        self._folder = user_path(folder)
        if not self._folder.is_dir():
            raise InputError(f"'{folder}' is no folder{suggestion(folder)}; give a folder of depth maps")
        exported = _exported(self._folder / "depth.json")
        self._per_unit = exported.counts_per_unit if exported is not None and per_unit is None else per_unit
        self._files = {} if exported is None else {view.name: view.file for view in exported.views}
        self._posed: DepthFiles | None = None
        if dataset_of(self._folder) is not None:
            posed = read_posed_set(self._folder)
            self._posed = posed.depth
            self._place = {os.path.abspath(image): i for i, image in enumerate(posed.images)}

    def read(self, record: ViewRecord) -> Float64[np.ndarray, "height width"] | None:
        """z-depth of a view, NaN where unknown; None for a view without a map."""
        if self._posed is not None:
            index = self._place.get(os.path.abspath(record.source_path))
            return None if index is None else self._posed.read(index)
        stem = self._folder / Path(record.name).with_suffix("")
        paths = [stem.parent / f"{stem.name}{suffix}" for suffix in _SUFFIXES]
        if record.name in self._files:
            listed = self._files[record.name]
            paths.append(resolve_inside(self._folder, listed, self._folder / "depth.json"))
        for path in paths:
            if path.is_file():
                depth = read_depth_map(path)
                check_whole_image(str(path), depth.shape, record)
                whole = path.suffix in (".png", ".tif", ".tiff") and bool((depth == np.round(depth)).all())
                return valid_depth(depth / (self._per_unit or (_PER_UNIT if whole else 1.0)))
        return None

    def expected(self, record: ViewRecord) -> Path:
        """Where a view's depth map would be."""
        return self._folder / Path(record.name).with_suffix(".png")


def check_whole_image(where: str, shape: tuple[int, ...], record: ViewRecord) -> None:
    """InputError for a depth map that cannot have the same field of view as the image."""
    (rows, columns), transform = shape, record.transform
    ratio = columns / rows * transform.upright_height / transform.upright_width
    if not 1 / _ASPECT_TOLERANCE < ratio < _ASPECT_TOLERANCE:
        raise InputError(
            f"{where}: has {columns}x{rows} pixels and {record.name} {transform.upright_width}x"
            f"{transform.upright_height}, another aspect ratio: give depth of the whole image"
        )


class _ExportedView(msgspec.Struct):
    name: str
    file: str


class _Exported(msgspec.Struct):
    """`depth.json` of ManyView's own export: values a unit of length, and which file is which view's."""

    counts_per_unit: Positive
    views: list[_ExportedView] = []


def _exported(path: Path) -> _Exported | None:
    try:
        return parse_json(read_regular(path), _Exported)
    except (OSError, ValueError):  # another program's
        return None
