"""Which known camera belongs to which view: by path, by name, or by the part of it that is unique."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from ...errors import UsageError
from ...files.naming import counted
from ..inputs.views import ViewRecord
from .cameras import KnownCamera, KnownCameras


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
    names = [(os.path.abspath(record.source), *_shorter(record.name)) for record in records]
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
