"""Known cameras and depth as files, and which camera belongs to which view."""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from ..._option_checks import check_options
from ...errors import InputError, UsageError
from ...files.naming import counted, suggestion
from ...files.paths import user_path
from ..inputs.views import ViewRecord
from .cameras import KnownCamera, KnownCameras, KnownData, read_known_cameras
from .depth import DepthFolder


@dataclasses.dataclass(frozen=True)
class KnownFiles:
    """Files with the known cameras and depth of some or all views.

    Args:
        cameras: COLMAP model, posed data set, or text file of poses (see `known.cameras`).
        depth: Folder of depth maps named like the images, or a posed data set with depth.
        depth_scale: Values of a depth map that are one unit of length of the cameras; None: 1000 for maps of
            whole numbers, 1 for others.

    Raises:
        InputError: A path does not exist.
        UsageError: `depth_scale` is not positive, or is given without `depth`.
    """

    cameras: str | os.PathLike[str] | None = None
    depth: str | os.PathLike[str] | None = None
    depth_scale: float | None = None

    def __post_init__(self) -> None:
        check_options(self, above={"depth_scale": 0})
        for path in (self.cameras, self.depth):  # before weights are fetched
            if path is not None and not user_path(path).exists():
                raise InputError(
                    f"'{path}' does not exist{suggestion(Path(path))}; give known cameras or depth maps"
                )
        if self.depth_scale is not None and self.depth is None:
            raise UsageError("a scale of known depth needs known depth")

    def __bool__(self) -> bool:
        return self.cameras is not None or self.depth is not None

    def read(self, records: Sequence[ViewRecord]) -> KnownData:
        """What the files say of the views. Raises UsageError or InputError where nothing fits the views."""
        data = KnownData([None] * len(records))
        if self.cameras is not None:
            cameras = read_known_cameras(Path(self.cameras))
            data = KnownData(match_views(cameras, records), cameras.notes)
        if self.depth is None:
            return data
        folder = DepthFolder(Path(self.depth), self.depth_scale)
        maps = (folder.read(record) for record in records)
        return dataclasses.replace(data, depth=maps, depth_from=folder.expected(records[0]))


def match_views(known: KnownCameras, records: Sequence[ViewRecord]) -> list[KnownCamera | None]:
    """The camera of each view, None where nothing is known.

    Names are compared whole, then without their folders, then without their suffix too, each only where that
    is unambiguous. Raises UsageError if no camera belongs to any view, or cameras in order are too few or
    many.
    """
    if known.in_order and len(known.in_order) != len(records):
        raise UsageError(
            f"there are {counted(len(known.in_order), 'known camera')} without names for "
            f"{counted(len(records), 'view')}: give one a view in their order, or put the image's name "
            "at the front of each line"
        )
    found: list[KnownCamera | None] = list(known.in_order) or _by_name(known, records)
    if known.for_all is not None:
        found = [_with(camera, known.for_all) for camera in found]
    if not any(found):
        first = next(iter(known.by_name), "none")
        raise UsageError(
            f"none of the {counted(len(known.by_name), 'known camera')} is of an image of this input: the "
            f"first known one is of {first!r}, the first view is {records[0].name!r}"
        )
    return found


def _by_name(known: KnownCameras, records: Sequence[ViewRecord]) -> list[KnownCamera | None]:
    names = [(os.path.abspath(record.source_path), *_shorter(record.name)) for record in records]
    tables = []
    for level in range(4):  # path, name, without folders, without suffix
        keys = [(name, *_shorter(name))[level] for name in known.by_name]
        times, among = Counter(keys), Counter(name[level] for name in names)
        tables.append(
            {
                key: camera
                for key, camera in zip(keys, known.by_name.values(), strict=True)
                if times[key] == 1 and among[key] == 1
            }
        )
    return [
        next((tables[level][name[level]] for level in range(4) if name[level] in tables[level]), None)
        for name in names
    ]


def _shorter(name: str) -> tuple[str, str, str]:
    path = PurePosixPath(name.replace("\\", "/"))
    return str(path), path.name, path.stem


def _with(camera: KnownCamera | None, for_all: KnownCamera) -> KnownCamera:
    return for_all if camera is None else KnownCamera(camera.world_from_cam, for_all.intrinsics, for_all.size)
