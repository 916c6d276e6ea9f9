"""Known cameras and depth as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TypeGuard

import numpy as np
import torch

from ...datasets.depth_maps import valid_depth
from ...errors import UsageError
from ...files.naming import counted
from ...geometry.unproject_np import invert_rigid, nearest_rigid
from ..inputs.views import ViewRecord
from .cameras import KnownCamera, KnownData
from .depth import check_whole_image

ArrayLike = np.ndarray | torch.Tensor
PerView = ArrayLike | Sequence[ArrayLike | None]


@dataclasses.dataclass(frozen=True, eq=False)
class KnownViews:
    """Arrays or tensors with the known cameras and depth of some or all views, in the order of the input.

    Each argument has one entry a view: an array whose first axis is the views, or a sequence of arrays and
    None. None, and an entry that is all NaN, mean unknown.

    Args:
        cam_from_world: World-to-camera transforms, each 3x4 or 4x4, OpenCV axes (x right, y down, z forward),
            in any world and unit of length.
        intrinsics: Pinhole matrices, each 3x3, or a single 3x3 matrix for all views, in pixels of the input
            images with the centre of the first pixel at (0.5, 0.5).
        z_depth: Depth along the optical axis, each height x width of any resolution with the field of view of
            the whole image, in the unit of length of the cameras. Values that are not positive and finite are
            unknown pixels.

    Raises:
        UsageError: An entry has a wrong shape or value (the message names the argument and the view), or the
            arguments have different numbers of views.
    """

    cam_from_world: PerView | None = None
    intrinsics: PerView | None = None
    z_depth: PerView | None = None

    def __post_init__(self) -> None:
        poses, intrinsics, depth = self._poses(), self._intrinsics(), self._depth()
        entries = {"cam_from_world": poses, "intrinsics": intrinsics, "z_depth": depth}
        given = {name: len(views) for name, views in entries.items() if views}
        if _is_matrix(self.intrinsics):
            given.pop("intrinsics")
        if len(set(given.values())) > 1:
            counts = ", ".join(f"{name} has {count}" for name, count in given.items())
            raise UsageError(f"{counts}: expected one entry a view in each, None for an unknown one")

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.cam_from_world, self.intrinsics, self.z_depth))

    def read(self, records: Sequence[ViewRecord]) -> KnownData:
        """What the arrays say of the views. Raises UsageError for another number of views."""
        poses, intrinsics, depth = self._poses(), self._intrinsics(), self._depth()
        if _is_matrix(self.intrinsics):
            intrinsics *= len(records)
        for name, entries in (("cam_from_world", poses), ("intrinsics", intrinsics), ("z_depth", depth)):
            if entries and len(entries) != len(records):
                raise UsageError(f"{name} has {len(entries)} entries for {counted(len(records), 'view')}")
        cameras = [
            None if pose is None and matrix is None else KnownCamera(pose, matrix)
            for pose, matrix in zip(poses or [None] * len(records), intrinsics or [None] * len(records))
        ]
        for i, (z_depth, record) in enumerate(zip(depth, records)):
            if z_depth is not None:
                check_whole_image(f"z_depth of view {i}", z_depth.shape, record)
        maps = (None if z_depth is None else valid_depth(z_depth) for z_depth in depth)
        return KnownData(cameras, depth=maps if depth else None, depth_from="z_depth")

    def _poses(self) -> list[np.ndarray | None]:
        """world_from_cam of each view."""
        found = _entries("cam_from_world", self.cam_from_world)
        for i, matrix in enumerate(found):
            if matrix is None:
                continue
            if matrix.shape not in ((3, 4), (4, 4)):
                raise UsageError(f"cam_from_world of view {i}: expected 3x4 or 4x4, not {_size(matrix)}")
            pose, rigid = nearest_rigid(matrix[:3].astype(np.float64))
            if not rigid or np.abs(matrix[3:] - [0, 0, 0, 1]).max(initial=0) > 1e-6:
                raise UsageError(
                    f"cam_from_world of view {i} is no rotation and translation; "
                    "expected [R | t] that maps world to camera coordinates"
                )
            found[i] = invert_rigid(pose)
        return found

    def _intrinsics(self) -> list[np.ndarray | None]:
        found = _entries(
            "intrinsics", self.intrinsics[None] if _is_matrix(self.intrinsics) else self.intrinsics
        )
        for i, matrix in enumerate(found):
            if matrix is None:
                continue
            if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or not (np.diag(matrix) > 0).all():
                raise UsageError(f"intrinsics of view {i}: expected 3x3 with focal lengths above zero")
        return found

    def _depth(self) -> list[np.ndarray | None]:
        found = _entries("z_depth", self.z_depth)
        for i, z_depth in enumerate(found):
            if z_depth is not None and (z_depth.ndim != 2 or 0 in z_depth.shape):
                raise UsageError(f"z_depth of view {i}: expected height x width, not {_size(z_depth)}")
        return found


def _is_matrix(values: PerView | None) -> TypeGuard[ArrayLike]:
    return isinstance(values, np.ndarray | torch.Tensor) and values.ndim == 2


def _entries(name: str, values: PerView | None) -> list[np.ndarray | None]:
    """One array a view, not copied where that is possible; None for an unknown view."""
    found: list[np.ndarray | None] = []
    for i, value in enumerate(() if values is None else values):
        if isinstance(value, torch.Tensor):
            value = (value.float() if value.dtype == torch.bfloat16 else value).detach().cpu().numpy()
        array = np.asarray(np.nan if value is None else value)
        if array.dtype.kind not in "iuf":
            raise UsageError(f"{name} of view {i}: expected an array of numbers, not {type(value).__name__}")
        found.append(None if np.isnan(array).all() else array)
    return found


def _size(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "a number"
