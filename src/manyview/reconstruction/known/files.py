"""Known cameras and depth as files."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from ...errors import InputError, UsageError
from ...files.naming import suggestion
from ..inputs.views import ViewRecord
from .cameras import KnownData, read_known_cameras
from .depth import DepthFolder
from .match import match_views


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
        for path in (self.cameras, self.depth):  # before weights are fetched
            if path is not None and not Path(path).expanduser().exists():
                raise InputError(
                    f"'{path}' does not exist{suggestion(Path(path))}; give known cameras or depth maps"
                )
        if self.depth_scale is not None and not self.depth_scale > 0:
            raise UsageError(f"the scale of known depth must be above zero, not {self.depth_scale}")
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
