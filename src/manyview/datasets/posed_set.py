"""Images with known cameras: what every reader of a data set returns."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64

from ..errors import InputError
from ..files.naming import printable
from ..files.spread import evenly_spread
from ..geometry.unproject_np import invert_rigid, nearest_rigid
from .depth_files import DepthFiles


@runtime_checkable
class FrameRule(Protocol):
    """How the loader of a benchmark makes network images of a scene's stored ones."""

    def write(self, posed: PosedSet, folder: Path, width: int, patch: int) -> PosedSet:
        """The set with such images, written to `folder`, at most `width` wide and whole patches."""
        ...


@dataclasses.dataclass(frozen=True)
class PosedSet:
    """Images and their cameras, in the order of the sequence.

    `cam_from_world`: OpenCV axes, lengths in `unit` ("units" where the format's scale is its own).
    `intrinsics`: pixels of the images, pixel centres at +0.5; None where the folder has none. `cloud`: a PLY
    file of measured points in the same world. `notes`: what was left out or assumed. `format`: name of the
    data set. `cam_from_world` is NaN for a frame without a camera (tracking was lost) until `with_cameras`
    leaves it out: `Dataset.read` does, unless every frame is to be counted. `positions` of the views in the
    sequence that a paper's script prepared the folder from (every third frame, say); None: it is whole.
    `frames`: how a benchmark makes its own frames of the images, where it does.
    """

    name: str
    images: tuple[Path, ...]
    cam_from_world: Float64[np.ndarray, "views 3 4"]
    intrinsics: Float64[np.ndarray, "views 3 3"] | None = None
    depth: DepthFiles | None = None
    notes: tuple[str, ...] = ()
    unit: str = "m"
    cloud: Path | None = None
    format: str = ""
    positions: tuple[int, ...] | None = None
    frames: FrameRule | None = None

    def __len__(self) -> int:
        return len(self.images)

    def spread(self, views: int) -> PosedSet:
        """At most `views` views, evenly spread, the first and the last among them."""
        if len(self) <= views:
            return self
        return self.select(evenly_spread(len(self), views))

    def with_cameras(self) -> PosedSet:
        """The views whose camera is known, with a note of how many are left out; InputError for none."""
        known = np.flatnonzero(np.isfinite(self.cam_from_world).all((1, 2))).tolist()
        if len(known) == len(self):
            return self
        if not known:
            raise InputError(f"{self.images[0].parent}: not one of {len(self)} images has a camera")
        notes = (*self.notes, *counted_note(len(self) - len(known), "frames without a camera left out"))
        return dataclasses.replace(self.select(known), notes=notes)

    def select(self, views: Sequence[int]) -> PosedSet:
        """These views alone, in this order."""
        chosen = list(views)
        return dataclasses.replace(
            self,
            images=tuple(self.images[i] for i in chosen),
            cam_from_world=self.cam_from_world[chosen],
            intrinsics=None if self.intrinsics is None else self.intrinsics[chosen],
            depth=None if self.depth is None else self.depth.select(chosen),
            positions=None if self.positions is None else tuple(self.positions[i] for i in chosen),
        )


def posed_set(
    folder: Path,
    images: Iterable[Path],
    world_from_cam: Float64[np.ndarray, "views 3 4"],
    where: Path | str,
    intrinsics: Float64[np.ndarray, "views 3 3"] | Float64[np.ndarray, "3 3"] | None = None,
    depth: DepthFiles | None = None,
    notes: tuple[str, ...] = (),
    unit: str = "m",
    cloud: Path | None = None,
    name: str | None = None,
    lost: Bool[np.ndarray, " views"] | None = None,
) -> PosedSet:
    """The set of a folder: cameras checked, a single matrix of intrinsics given to all, `cloud` if it exists.

    Views that are `lost` have no camera (see `PosedSet`). Raises InputError that names `where` for another
    camera that is no rotation and translation, or whose intrinsics are not finite with focal lengths above
    zero.
    """
    paths = tuple(images)
    if intrinsics is not None and intrinsics.ndim == 2:
        intrinsics = np.repeat(intrinsics[None], len(paths), 0)
    if intrinsics is not None:
        check_intrinsics(intrinsics, where)
    if lost is not None:
        world_from_cam = np.where(lost[:, None, None], np.eye(3, 4), world_from_cam)
    cam_from_world = cameras_from_world_from_cam(world_from_cam, where)
    cam_from_world[lost if lost is not None else []] = np.nan
    return PosedSet(
        name=printable(folder.resolve().name if name is None else name),
        images=paths,
        cam_from_world=cam_from_world,
        intrinsics=intrinsics,
        depth=depth,
        notes=notes,
        unit=unit,
        cloud=cloud if cloud is not None and cloud.is_file() else None,
    )


def check_intrinsics(intrinsics: Float64[np.ndarray, "views 3 3"], where: Path | str) -> None:
    """InputError that names `where` unless intrinsics are finite, with focal lengths above zero."""
    focal = intrinsics[:, [0, 1], [0, 1]]
    good = np.isfinite(intrinsics).all((1, 2)) & (focal > 0).all(1) & (np.abs(intrinsics).max((1, 2)) < 1e9)
    if not good.all():
        raise InputError(
            f"{where}: the intrinsics of view {int(good.argmin())} are not finite, or a focal length is not "
            "above zero"
        )


def counted_note(count: int, what: str) -> tuple[str, ...]:
    """A note such as "3 frames without a finite pose left out", none for 0."""
    return (f"{count} {what}",) if count else ()


def cameras_from_world_from_cam(
    world_from_cam: Float64[np.ndarray, "views 3 4"], where: Path | str
) -> Float64[np.ndarray, "views 3 4"]:
    """`cam_from_world` of measured cameras, with the rotation nearest to each matrix.

    Raises InputError that names `where` for a matrix that is no rigid transform.
    """
    nearest, rigid = nearest_rigid(world_from_cam)
    if not rigid.all():
        raise InputError(
            f"{where}: the camera of view {int(rigid.argmin())} is no rotation and translation; "
            "expected world_from_cam (camera-to-world) matrices"
        )
    return invert_rigid(nearest)
