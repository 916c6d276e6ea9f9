"""The arrays of a result: names, types and shapes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from ...files.array_file import Shapes

# Field name -> (type, shape). "v h w" are the number of views, and height and width of the images.
ARRAY_FIELDS: dict[str, tuple[str, tuple[str | int, ...]]] = {
    "images": ("uint8", ("v", "h", "w", 3)),
    "cam_from_world": ("float64", ("v", 3, 4)),
    "intrinsics": ("float64", ("v", 3, 3)),
    "z_depth": ("float32", ("v", "h", "w")),
    "depth_conf": ("float32", ("v", "h", "w")),
    "head_points": ("float32", ("v", "h", "w", 3)),
    "head_points_conf": ("float32", ("v", "h", "w")),
}
OPTIONAL_ARRAYS = frozenset({"head_points", "head_points_conf"})


def array_shapes(views: int, height: int, width: int, head_points: bool = False) -> Shapes:
    """Types and shapes of the arrays of a result, as `ArrayFile` takes them."""
    sizes = {"v": views, "h": height, "w": width}
    return {
        name: (dtype, tuple(sizes[size] if isinstance(size, str) else size for size in shape))
        for name, (dtype, shape) in ARRAY_FIELDS.items()
        if head_points or name not in OPTIONAL_ARRAYS
    }


def array_bytes(images_shape: Sequence[int], head_points: bool = False) -> int:
    """Bytes of the arrays of a result of images [views, 3, height, width], without its few for cameras."""
    views, _, height, width = images_shape
    return views * height * width * (3 + 4 + 4 + (12 + 4 if head_points else 0))


def hash_settings(settings: Mapping[str, Any]) -> str:
    """16 hex digits of the SHA-256 of the settings as canonical JSON (key order does not matter)."""
    text = json.dumps(settings, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
