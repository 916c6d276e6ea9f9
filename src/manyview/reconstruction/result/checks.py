"""Checks of the fields of a `Reconstruction`, which name what is wrong and the view it is wrong in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from ...errors import ManyViewError
from ..inputs.views import ViewRecord
from .arrays import OPTIONAL_ARRAYS, array_shapes
from .tracks import Tracks

if TYPE_CHECKING:
    from .result import Reconstruction


def check_arrays(scene: Reconstruction) -> None:
    images = scene.images
    if not isinstance(images, np.ndarray) or images.ndim != 4:
        raise ValueError("images must be a uint8 array [views, height, width, 3]")
    views, height, width, _ = images.shape
    if views == 0 or len(scene.views) != views:
        raise ValueError(
            f"there are {views} images and {len(scene.views)} view records; both must be equal, >= 1"
        )
    for name, (dtype, wanted) in array_shapes(views, height, width, OPTIONAL_ARRAYS.values()).items():
        array = getattr(scene, name)
        if array is None and name in OPTIONAL_ARRAYS:
            continue
        found = (getattr(array, "dtype", type(array).__name__), getattr(array, "shape", None))
        if not isinstance(array, np.ndarray) or array.dtype != dtype or array.shape != wanted:
            raise ValueError(f"{name} must be {dtype} {list(wanted)}, got {found[0]} {found[1]}")
    if (scene.head_points is None) != (scene.head_points_conf is None):
        raise ValueError("head_points and head_points_conf come together or not at all")
    if scene.distortion is not None and not np.isfinite(scene.distortion).all():
        raise ValueError("distortion must be finite")
    if not isinstance(scene.tracks, Tracks | None):
        raise ValueError(f"tracks must be Tracks, not {type(scene.tracks).__name__}")
    if scene.tracks is not None and scene.tracks.view_index.max(initial=0) >= views:
        raise ValueError(f"tracks: an observation belongs to none of the {views} views")


def check_views(views: Sequence[ViewRecord], height: int, width: int) -> None:
    seen: set[str] = set()
    for view in views:
        if not isinstance(view, ViewRecord):
            raise ValueError(f"views must be ViewRecords, not {type(view).__name__}")
        name, transform = view.name, view.transform
        if not _is_relative(name):
            raise ValueError(f"view name {name!r} must be a relative path with forward slashes and no '..'")
        if name in seen:
            raise ValueError(f"view name {name!r} occurs twice; names must be unique")
        seen.add(name)
        if transform.network_size != (height, width):
            raise ValueError(
                f"view {name!r}: its transform leads to {transform.network_width}x{transform.network_height} "
                f"pixels, the images have {width}x{height}"
            )


def _is_relative(name: str) -> bool:
    """Whether a name is one that a file below a folder may have, on any system that follows POSIX."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in name and not {"", ".", ".."} & set(name.split("/"))


def check_cameras(
    cam_from_world: Float[np.ndarray, "views 3 4"],
    intrinsics: Float[np.ndarray, "views 3 3"],
    names: Sequence[str],
) -> None:
    finite = np.isfinite(cam_from_world).all((1, 2)) & np.isfinite(intrinsics).all((1, 2))
    _refuse_view(~finite, names, "has a camera that is not finite")
    rotation = cam_from_world[:, :, :3]
    skewness = np.abs(rotation @ np.swapaxes(rotation, 1, 2) - np.eye(3)).max((1, 2))
    _refuse_view(
        (skewness > 1e-3) | (np.linalg.det(rotation) < 0), names, "has a rotation matrix that is not one"
    )
    focal = np.stack([intrinsics[:, 0, 0], intrinsics[:, 1, 1]], axis=-1)
    _refuse_view(focal.min(1) <= 0, names, "has a focal length that is not positive")
    pinhole = np.zeros_like(intrinsics)
    pinhole[:, [0, 1, 0, 1], [0, 1, 2, 2]] = intrinsics[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    pinhole[:, 2, 2] = 1.0
    other = np.abs(intrinsics - pinhole).max((1, 2)) > 0
    _refuse_view(other, names, "has intrinsics that are not [fx 0 cx; 0 fy cy; 0 0 1]")


def _refuse_view(wrong: np.ndarray, names: Sequence[str], what: str) -> None:
    if np.any(wrong):
        first = int(np.argmax(wrong))
        more = f" (and {int(wrong.sum()) - 1} more)" if wrong.sum() > 1 else ""
        raise ManyViewError(
            f"view {first + 1} of {len(names)}, {names[first]!r},{more} {what}; "
            "check the weights and the image, or run in float32"
        )
