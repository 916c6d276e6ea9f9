"""TUM RGB-D (Sturm et al., IROS 2012): `groundtruth.txt`, `rgb/` and optionally `depth/`.

A line of the track is `timestamp tx ty tz qx qy qz qw`, world_from_cam in metres, quaternion scalar last.
Pictures carry their time as name (or in `rgb.txt`) and get the camera nearest in time, at most 20 ms
away; so do depth pictures, 16 bit with 5000 a metre, 0 for no measurement, registered to the colour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.cameras import rotation_from_quat_xyzw
from .posed_set import DepthFiles, PosedSet, cameras_from_world_from_cam
from .text_files import (
    first_line_words,
    first_with_pictures,
    lines_of,
    number_table,
    numbers,
    pictures_in,
)

FORMAT = "tum"
LOOKS_FOR = "groundtruth.txt with 8 numbers a line beside rgb/ (pictures named by their time) or rgb.txt"
_FARTHEST_S = 0.02
_DEPTH_PER_METRE = 5000.0


def fits(folder: Path) -> bool:
    """Whether the folder looks like this format."""
    return first_line_words(folder / "groundtruth.txt") == 8


def read(folder: Path) -> PosedSet:
    """The sequence in the folder. Raises InputError where no picture has a camera near in time."""
    track = number_table(folder / "groundtruth.txt", 8)
    track = track[np.argsort(track[:, 0], kind="stable")]
    pictures = _timed(folder, "rgb", ("rgb", "color"))
    if not pictures:
        raise InputError(f"{folder}: groundtruth.txt is there but no pictures; expected {LOOKS_FOR}")
    times = np.array([time for time, _ in pictures])
    nearest = _nearest(track[:, 0], times)
    kept = np.flatnonzero(np.abs(track[nearest, 0] - times) <= _FARTHEST_S)
    if not len(kept):
        raise InputError(
            f"{folder}: no picture is within {_FARTHEST_S:g} s of a line of groundtruth.txt; "
            "expected times in seconds of the same clock"
        )
    rows = track[nearest[kept]]
    rotation = rotation_from_quat_xyzw(torch.from_numpy(rows[:, 4:])).numpy()
    world_from_cam = np.concatenate([rotation, rows[:, 1:4, None]], axis=-1)
    left_out = len(pictures) - len(kept)
    return PosedSet(
        name=folder.resolve().name,
        format=FORMAT,
        images=tuple(pictures[i][1] for i in kept),
        cam_from_world=cameras_from_world_from_cam(world_from_cam, str(folder / "groundtruth.txt")),
        depth=_depth(folder, times[kept]),
        notes=(f"{left_out} pictures without a camera near in time left out",) if left_out else (),
    )


def _depth(folder: Path, times: Float64[np.ndarray, " views"]) -> DepthFiles | None:
    files = _timed(folder, "depth", ("depth",))
    if not files:
        return None
    depth_times = np.array([time for time, _ in files])
    nearest = _nearest(depth_times, times)
    near = np.abs(depth_times[nearest] - times) <= _FARTHEST_S
    paths = tuple(files[i][1] if good else None for i, good in zip(nearest, near))
    return DepthFiles(paths, _DEPTH_PER_METRE) if near.any() else None


def _timed(folder: Path, listing: str, folders: tuple[str, ...]) -> list[tuple[float, Path]]:
    """(time, picture), sorted: from the listing if there is one, else from the names of the pictures."""
    path = folder / f"{listing}.txt"
    if path.is_file():
        listed = [
            (numbers(words[:1], path, line)[0], folder / words[1])
            for line, words in lines_of(path)
            if len(words) > 1
        ]
        missing = [file for _, file in listed if not file.is_file()]
        if missing:
            raise InputError(f"{path}: {missing[0]} does not exist; the download is not complete")
        return sorted(listed)
    found = pictures_in(folder / folders[0]) or first_with_pictures(folder, folders)
    timed = []
    for file in found:
        try:
            timed.append((float(file.stem), file))
        except ValueError as error:
            raise InputError(f"{file}: expected a name that is its time in seconds, or {path}") from error
    return sorted(timed)


def _nearest(known: Float64[np.ndarray, " n"], asked: Float64[np.ndarray, " m"]) -> np.ndarray:
    """Index of the value of `known`, which rises, nearest to each of `asked`."""
    after = np.searchsorted(known, asked).clip(1, max(1, len(known) - 1))
    before = after - 1
    after = after.clip(max=len(known) - 1)
    return np.where(asked - known[before] <= known[after] - asked, before, after)
