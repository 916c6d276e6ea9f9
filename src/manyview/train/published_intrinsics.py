"""Calibrations that a dataset publishes beside its folders: those of TUM RGB-D, by the name of a sequence.

Source: the dataset's page on file formats (section "Intrinsic Camera Calibration of the Kinect", colour
cameras). The images of freiburg1 and freiburg2 have lens distortion, which is left out.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from jaxtyping import Float64
from PIL import Image

from ..datasets.posed_set import PosedSet

# fx, fy, cx, cy of images of 640x480, pixel centres at whole numbers.
_TUM = {
    "1": (517.3, 516.5, 318.6, 255.3),
    "2": (520.9, 521.0, 325.1, 249.7),
    "3": (535.4, 539.2, 320.1, 247.6),
}
_SIZE = 640, 480
_CAMERA = re.compile(r"(?:^|[^a-z])(?:freiburg|fr)([123])(?![0-9])")


def published_intrinsics(found: PosedSet, folder: str | Path) -> Float64[np.ndarray, "3 3"] | None:
    """K of a TUM sequence whose folder, or the one above it, has freiburg1 to 3 (fr1 to 3) in its name.

    For the images as they are stored (smaller ones of the same shape are scaled), pixel centres at +0.5;
    None for other folders and shapes.
    """
    if found.format != "tum":
        return None
    names = Path(folder).resolve().parts[-1:-3:-1]
    match = next((match for name in names if (match := _CAMERA.search(name.lower()))), None)
    if match is None:
        return None
    with Image.open(found.images[0]) as image:
        width, height = image.size
    if width * _SIZE[1] != height * _SIZE[0]:
        return None
    fx, fy, cx, cy = _TUM[match[1]]
    scale = width / _SIZE[0]
    return np.array([[scale * fx, 0, scale * (cx + 0.5)], [0, scale * fy, scale * (cy + 0.5)], [0, 0, 1]])
