"""Pictures with known cameras: what every reader of a format returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid, nearest_rigid
from .depth_maps import read_depth_map, valid_depth


@dataclasses.dataclass(frozen=True)
class DepthFiles:
    """Depth maps in the order of the views (None: a view without one), of any kind `depth_maps` reads.

    z-depth in metres is value / `per_metre`; zero and `invalid` values are no measurement, nor is depth
    beyond `farthest` metres.
    """

    paths: tuple[Path | None, ...]
    per_metre: float
    invalid: tuple[int, ...] = ()
    farthest: float = float("inf")

    def read(self, index: int) -> Float64[np.ndarray, "height width"] | None:
        """z-depth of one view in metres, NaN where nothing was measured; None for a view without depth."""
        path = self.paths[index]
        if path is None:
            return None
        values = read_depth_map(path)
        depth = valid_depth(values)
        depth[np.isin(values, self.invalid)] = np.nan
        depth /= self.per_metre
        depth[depth > self.farthest] = np.nan
        return depth

    def select(self, views: Sequence[int]) -> DepthFiles:
        """The depth of these views alone, in this order."""
        return dataclasses.replace(self, paths=tuple(self.paths[i] for i in views))


@dataclasses.dataclass(frozen=True)
class PosedSet:
    """Pictures and their cameras, in the order of the sequence.

    `cam_from_world`: OpenCV axes, lengths in `unit` ("units" where the format's scale is its own).
    `intrinsics`: pixels of the pictures, pixel centres at +0.5; None where the folder does not tell. `cloud`:
    a PLY file of measured points in the same world. `notes`: what was left out or assumed.
    """

    name: str
    format: str
    images: tuple[Path, ...]
    cam_from_world: Float64[np.ndarray, "views 3 4"]
    intrinsics: Float64[np.ndarray, "views 3 3"] | None = None
    depth: DepthFiles | None = None
    notes: tuple[str, ...] = ()
    unit: str = "m"
    cloud: Path | None = None

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, views: int) -> PosedSet:
        """At most `views` views, evenly spread, the first and the last among them."""
        if len(self) <= views:
            return self
        return self.select(np.linspace(0, len(self) - 1, views).round().astype(int).tolist())

    def select(self, views: Sequence[int]) -> PosedSet:
        """These views alone, in this order."""
        chosen = list(views)
        return dataclasses.replace(
            self,
            images=tuple(self.images[i] for i in chosen),
            cam_from_world=self.cam_from_world[chosen],
            intrinsics=None if self.intrinsics is None else self.intrinsics[chosen],
            depth=None if self.depth is None else self.depth.select(chosen),
        )


def cameras_from_world_from_cam(
    world_from_cam: Float64[np.ndarray, "views 3 4"], where: str
) -> Float64[np.ndarray, "views 3 4"]:
    """`cam_from_world` of measured cameras, with the rotation nearest to each matrix.

    `where` names the file for the error. Raises InputError for a matrix that is no rotation.
    """
    nearest, rigid = nearest_rigid(world_from_cam)
    if not rigid.all():
        raise InputError(
            f"{where}: the camera of view {int(rigid.argmin())} is no rotation and translation; "
            "expected world_from_cam (camera-to-world) matrices"
        )
    return invert_rigid(nearest)
