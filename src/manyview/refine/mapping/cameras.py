"""Which views share a camera, and where the refinement of its intrinsics starts."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from ...errors import UsageError
from ..options import RefineOptions

if TYPE_CHECKING:
    from ...reconstruction.inputs.views import ViewRecord
    from ...reconstruction.result.result import Reconstruction

_FULL_FRAME_DIAGONAL_MM = 43.2666
EXIF_SIGMA = 0.05
"""Relative standard deviation of a focal length from EXIF, which is rounded and that of focus at infinity."""
NETWORK_SIGMA = 0.25
"""Of one that a network predicts; that of the bundled model on photographs."""


@dataclasses.dataclass(frozen=True, eq=False)
class KnownViewCameras:
    """What the user knows, in pixels of the upright original images; NaN where it is unknown."""

    cam_from_world: Float64[np.ndarray, "views 3 4"]
    intrinsics: Float64[np.ndarray, "views 3 3"]


@dataclasses.dataclass(frozen=True)
class StartCamera:
    """One camera in pixels of upright images: the views that share it and the parameters it starts from.

    `params` in COLMAP's order for `model`. `focal_sigma`: relative standard deviation of the focal length;
    None where all is known and stays as it is.
    """

    views: tuple[int, ...]
    model: str
    width: int
    height: int
    params: tuple[float, ...]
    focal_sigma: float | None

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


def start_cameras(
    scene: Reconstruction, options: RefineOptions, known: KnownViewCameras | None = None
) -> tuple[StartCamera, ...]:
    """The cameras of a scene, each view in one of them.

    Known intrinsics are a PINHOLE camera of their own. The others start at EXIF's focal length, else at the
    median of those that the network predicted for their views, and with the network's principal point.

    Raises:
        UsageError: One camera is asked for (`camera="shared"`), and the images have several sizes.
    """
    upright = scene.upright_intrinsics
    groups: dict[tuple[Any, ...], list[int]] = {}
    for index, view in enumerate(scene.views):
        size = (view.transform.upright_width, view.transform.upright_height)
        if known is not None and np.isfinite(known.intrinsics[index]).all():
            key: tuple[Any, ...] = (size, known.intrinsics[index].round(6).tobytes())
        elif options.camera == "per-view":
            key = (size, index)
        else:
            key = (size, view.focal_35mm if options.camera == "auto" else None)
        groups.setdefault(key, []).append(index)
    if options.camera == "shared" and len({key[0] for key in groups}) > 1:
        first, second = (members[0] for members in list(groups.values())[:2])
        raise UsageError(
            f"{scene.names[first]} and {scene.names[second]} have different sizes and cannot share "
            "one camera; use --camera per-size"
        )
    return tuple(
        _start(scene.views, members, upright, options.camera_model, known) for members in groups.values()
    )


def _start(
    records: tuple[ViewRecord, ...],
    members: list[int],
    upright: Float64[np.ndarray, "views 3 3"],
    model: str,
    known: KnownViewCameras | None,
) -> StartCamera:
    record = records[members[0]]
    width, height = record.transform.upright_width, record.transform.upright_height
    if known is not None and np.isfinite(known.intrinsics[members[0]]).all():
        matrix = known.intrinsics[members[0]]
        exact = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
        return StartCamera(tuple(members), "PINHOLE", width, height, tuple(map(float, exact)), None)
    matrix = np.median(upright[members], axis=0)
    focal, sigma = float((matrix[0, 0] + matrix[1, 1]) / 2), NETWORK_SIGMA
    millimetres = [records[i].focal_35mm for i in members]
    given = [length for length in millimetres if length is not None]
    if given:
        focal = float(np.median(given)) * math.hypot(width, height) / _FULL_FRAME_DIAGONAL_MM
        sigma = EXIF_SIGMA
    focals = [focal] if model.startswith("SIMPLE") or model == "RADIAL" else [focal, focal]
    lens = {"SIMPLE_RADIAL": 1, "RADIAL": 2, "OPENCV": 4}.get(model, 0)
    params = [*focals, float(matrix[0, 2]), float(matrix[1, 2]), *[0.0] * lens]
    return StartCamera(tuple(members), model, width, height, tuple(params), sigma)


def intrinsics_of(
    model: str, params: Float64[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "4"]]:
    """(matrix, (k1, k2, p1, p2)) of COLMAP's parameters."""
    one = model.startswith("SIMPLE") or model == "RADIAL"
    fx, fy, cx, cy, *lens = (params[0], *params) if one else params
    distortion = np.zeros(4)
    distortion[: len(lens)] = lens
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]), distortion
