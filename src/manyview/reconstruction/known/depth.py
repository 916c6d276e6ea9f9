"""Known depth maps from files, one a picture by the same name, brought to the network's pixels."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ...errors import InputError
from ...files.naming import suggestion
from ..inputs.views import ViewRecord

_SUFFIXES = (".npy", ".png", ".pfm", ".tif", ".tiff", ".dpt")
_PER_UNIT = 1000.0
"""Values a unit of length in maps of whole numbers: millimetres."""
_BENT = 1.15
"""Shapes of pictures and maps may differ by less: resizing to whole patches bends small ones."""


class DepthFolder:
    """Depth maps of some pictures: `DIR/<name of the picture>.png`, `.npy`, `.pfm`, `.tif` or `.dpt`, or the
    depth of a posed data set. `per_unit` values are one unit of length (None: what `depth.json` of ManyView's
    export says, else 1000 for whole numbers and 1 for others).
    """

    def __init__(self, folder: Path, per_unit: float | None = None) -> None:
        from ...datasets import READERS, read_posed_set

        self.folder, self.per_unit = folder.expanduser(), per_unit
        if not self.folder.is_dir():
            raise InputError(f"'{folder}' is no folder{suggestion(self.folder)}; give a folder of depth maps")
        if per_unit is None:
            self.per_unit = _exported_scale(self.folder / "depth.json")
        self._posed = None
        if any(reader.fits(self.folder) for reader in READERS):
            posed = read_posed_set(self.folder)
            if posed.depth is not None:
                self._posed = posed
                self._place = {os.path.abspath(image): i for i, image in enumerate(posed.images)}

    def read(self, record: ViewRecord) -> Float64[np.ndarray, "height width"] | None:
        """z-depth of a view, NaN where it is not known; None for a view without a map."""
        from ...datasets.depth_maps import read_depth_map

        if self._posed is not None and self._posed.depth is not None:
            index = self._place.get(os.path.abspath(record.source))
            return None if index is None else self._posed.depth.read(index)
        stem = self.folder / Path(record.name).with_suffix("")
        for path in (stem.parent / f"{stem.name}{suffix}" for suffix in _SUFFIXES):
            if path.is_file():
                depth = read_depth_map(path)
                whole = path.suffix in (".png", ".tif", ".tiff") and bool((depth == np.round(depth)).all())
                depth = depth / (self.per_unit or (_PER_UNIT if whole else 1.0))
                depth[~np.isfinite(depth) | (depth <= 0)] = np.nan
                _check_shape(path, depth.shape, record)
                return depth
        return None


def _check_shape(path: Path, shape: tuple[int, ...], record: ViewRecord) -> None:
    """InputError for a map that cannot show the same field of view as the picture."""
    (rows, columns), transform = shape, record.transform
    bent = columns / rows * transform.upright_height / transform.upright_width
    if not 1 / _BENT < bent < _BENT:
        raise InputError(
            f"{path}: has {columns}x{rows} pixels and {record.name} {transform.upright_width}x"
            f"{transform.upright_height}, another shape: give depth of the whole picture, without padding"
        )


def _exported_scale(path: Path) -> float | None:
    """Counts a unit of length in the depth pictures of ManyView's own export."""
    try:
        scale = json.loads(path.read_text(encoding="utf-8"))["counts_per_unit"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return float(scale) if isinstance(scale, int | float) and scale > 0 else None


def expected_name(folder: Path, record: ViewRecord) -> Path:
    """Where a view's depth map would be."""
    return folder / Path(record.name).with_suffix(".png")
