"""Depth maps as datasets store them: 16-bit images, PFM, OpenEXR, NumPy, Sintel's .dpt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float64, Num
from PIL import Image

from ..errors import InputError
from .exr import read_exr

SINTEL_TAG = np.float32(202021.25)


def read_depth_map(path: Path) -> Float64[np.ndarray, "height width"]:
    """The raw values of a depth map, by the suffix of the file. Raises InputError for a damaged one."""
    try:
        if path.suffix == ".dpt":
            values = _sintel(path)
        elif path.suffix == ".pfm":
            values = _pfm(path)
        elif path.suffix == ".exr":
            values = read_exr(path.read_bytes())
        elif path.suffix == ".npy":
            values = np.load(path, allow_pickle=False).squeeze()
        else:
            with Image.open(path) as image:
                values = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a depth map ({error}); copy it again") from error
    if values.ndim != 2 or values.dtype.kind not in "iuf" or values.dtype.itemsize < 2:
        raise InputError(f"{path}: expected depth as one channel of 16 bits, not {values.dtype} pixels")
    return values.astype(np.float64)


def valid_depth(values: Num[np.ndarray, "height width"]) -> Float64[np.ndarray, "height width"]:
    """Depth as float64 with NaN where a value is not positive and finite."""
    depth = values.astype(np.float64)
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def _sintel(path: Path) -> np.ndarray:
    """MPI Sintel (Butler et al., ECCV 2012): a tag, width and height, then float32 rows, little-endian."""
    data = path.read_bytes()
    if len(data) < 12 or np.frombuffer(data, "<f4", 1)[0] != SINTEL_TAG:
        raise ValueError("does not begin with Sintel's tag")
    width, height = (int(value) for value in np.frombuffer(data, "<i4", 2, 4))
    return np.frombuffer(data, "<f4", width * height, 12).reshape(height, width)


def _pfm(path: Path) -> np.ndarray:
    """Portable float map of one channel; rows are stored from the bottom."""
    with path.open("rb") as file:
        kind, size, scale = (file.readline().decode("ascii").split() for _ in range(3))
        if kind != ["Pf"] or len(size) != 2 or len(scale) != 1:
            raise ValueError("no PFM of one channel")
        width, height = int(size[0]), int(size[1])
        order = "<f4" if float(scale[0]) < 0 else ">f4"
        return np.frombuffer(file.read(), order, width * height).reshape(height, width)[::-1]
