"""The arrays of a result: names, types and shapes."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from ...files.array_file import Shapes

# Field name -> (type, shape). "v h w" are the number of views, and height and width of the images.
# Arrays of `tracks` are stored beside these under `TRACK_ARRAYS`.
ARRAY_FIELDS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "images": ("uint8", ("v", "h", "w", 3)),
    "cam_from_world": ("float64", ("v", 3, 4)),
    "intrinsics": ("float64", ("v", 3, 3)),
    "z_depth": ("float32", ("v", "h", "w")),
    "depth_conf": ("float32", ("v", "h", "w")),
    "head_points": ("float32", ("v", "h", "w", 3)),
    "head_points_conf": ("float32", ("v", "h", "w")),
    "sky": ("bool", ("v", "h", "w")),
    "masked": ("bool", ("v", "h", "w")),
    "confirmed": ("bool", ("v", "h", "w")),
    "distortion": ("float64", ("v", 4)),
}
# The head, or the step after the network, that each array comes from which a result may lack.
OPTIONAL_ARRAYS = {
    "head_points": "points",
    "head_points_conf": "points",
    "sky": "sky",
    "masked": "masks",
    "confirmed": "stereo",
    "distortion": "refined",
}
# Name in a file -> type, of the fields of `Tracks`.
TRACK_ARRAYS = {
    "tracks.points": "float64",
    "tracks.colours": "uint8",
    "tracks.point_index": "int64",
    "tracks.view_index": "int64",
    "tracks.pixels": "float64",
}


def array_shapes(views: int, height: int, width: int, heads: Collection[str] = ()) -> Shapes:
    """Types and shapes of the arrays of a result of these heads, as `ArrayFile` takes them."""
    sizes = {"v": views, "h": height, "w": width}
    return {
        name: (dtype, tuple(sizes[size] if isinstance(size, str) else size for size in shape))
        for name, (dtype, shape) in ARRAY_FIELDS.items()
        if name not in OPTIONAL_ARRAYS or OPTIONAL_ARRAYS[name] in heads
    }


def array_bytes(images_shape: Sequence[int], heads: Collection[str] = ()) -> int:
    """Bytes of the arrays of a result of images [views, 3, height, width], without its few for cameras."""
    views, _, height, width = images_shape
    shapes = array_shapes(views, height, width, heads)
    pixels = (shapes[name] for name in shapes if "h" in ARRAY_FIELDS[name][1])
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in pixels)


def hash_settings(settings: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of the settings as canonical JSON (key order does not matter)."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
