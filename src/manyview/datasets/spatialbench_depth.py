"""SpatialBench's depth: one encoding a scene (`depth_format` of its meta.json), and masks of what counts."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import Float64
from PIL import Image

from ..errors import InputError
from .depth_files import DepthFiles
from .depth_maps import read_depth_map
from .fixed_frames import FixedFrame

_PER_METRE = {
    "uint16_png_div1000": 1000.0,
    "uint16_png_div1000_rectified": 1000.0,
    "uint16_png_div100": 100.0,
    "uint16_png_div_655.35": 655.35,
    "npy_float32_meters": 1.0,
    "exr_float32": 1.0,
}
_INVERSE = "uint16_png_inverse_encoded"
_RAW = re.compile(r"float32_binary.*_(\d+)x(\d+)$")
_SKY = 65500
_MOST = 65535.0
_LEAST_CONFIDENCE = 0.5
"""The default of SpatialBench's command line; its data set alone has 0.3."""
_PERCENTILE = 80
FORMATS = (*_PER_METRE, _INVERSE, "float32_binary_HxW", "none")
"""What `depth_format` may be, beside "none"."""


def known_format(form: str) -> bool:
    return form in FORMATS or _RAW.match(form) is not None


@dataclasses.dataclass(frozen=True)
class EncodedDepth(DepthFiles):
    """z-depth in metres of files encoded by `form`; `metric_scale` is that of inverse depth.

    `masks`: of each view the files whose zeros are no measurement; `skies`: those whose other values are sky;
    `confidences`: those below one half are none. With `nearest_only` nor is depth above the 80th percentile
    of a map, zeros counted. `frames`: read as these frames show it (empty: as stored).
    """

    form: str = "none"
    metric_scale: float = 1.0
    masks: tuple[tuple[Path, ...], ...] = ()
    skies: tuple[Path | None, ...] = ()
    confidences: tuple[Path | None, ...] = ()
    nearest_only: bool = False
    frames: tuple[FixedFrame | None, ...] = ()

    _per_view: ClassVar[tuple[str, ...]] = ("paths", "masks", "skies", "confidences", "frames")

    def read(self, index: int) -> Float64[np.ndarray, "height width"] | None:
        path = self.paths[index]
        if path is None:
            return None
        depth = _decoded(path, self.form, self.metric_scale)
        for mask in self.masks[index]:
            values = _mask(mask)
            if values.shape == depth.shape:
                depth[values == 0] = np.nan
        confidence = self.confidences[index]
        if confidence is not None:
            values = _mask(confidence)
            if values.shape == depth.shape:
                depth[values / np.iinfo(values.dtype).max < _LEAST_CONFIDENCE] = np.nan
        depth[depth > self.farthest] = np.nan
        sky = self.skies[index]
        if sky is not None:
            values = _mask(sky)
            if values.shape == depth.shape:
                depth[values > 0] = np.nan
        if self.nearest_only:
            limit = float(np.percentile(np.nan_to_num(depth), _PERCENTILE))
            if limit > 0:
                depth[depth > limit] = np.nan
        frame = self.frames[index]
        return depth if frame is None else frame.depth(depth)


def _decoded(path: Path, form: str, metric_scale: float) -> Float64[np.ndarray, "height width"]:
    """Metres, NaN where nothing was measured or the sky is seen."""
    raw = _RAW.match(form)
    if raw is not None:
        height, width = int(raw[1]), int(raw[2])
        values = np.fromfile(path, "<f4").astype(np.float64)
        if values.size != height * width:
            raise InputError(f"{path}: holds {values.size} numbers, expected {height}x{width}; copy it again")
        depth = values.reshape(height, width)
    else:
        values = read_depth_map(path)
        if form == _INVERSE:
            share = values / _MOST
            depth = metric_scale * share / (1000 - share * (1000 - 1)) / 0.004
            depth[(share < 0.0015) | (values > _SKY)] = np.nan
        else:
            depth = values / _PER_METRE[form]
            if form == "uint16_png_div100":
                depth[values >= _SKY] = np.nan
    depth[~(np.isfinite(depth) & (depth > 0))] = np.nan
    return depth


def _mask(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as a mask ({error}); copy it again") from error
    values = values.astype(np.uint16) if values.dtype == np.int32 else values
    if values.ndim == 3:
        values = values[..., 0]
    if values.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: expected a mask of 8 or 16 bits, not {values.dtype}")
    return values
