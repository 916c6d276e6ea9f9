"""TUM RGB-D (Sturm et al., IROS 2012): `groundtruth.txt`, `rgb/` and optionally `depth/`.

A line of the track is `timestamp tx ty tz qx qy qz qw`, world_from_cam in metres, quaternion scalar last.
Images carry their time as name (or in `rgb.txt`) and get the camera nearest in time, at most 20 ms
away; so do depth maps, 16 bit with 5000 a metre, 0 for no measurement, registered to the colour.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from ..errors import InputError
from ..files.paths import resolve_inside
from ..geometry.cameras import rotation_from_quat_xyzw
from .dataset import Dataset
from .image_files import images_in
from .posed_set import DepthFiles, PosedSet, posed_set
from .text_files import first_line_words, lines_of, number_table, numbers

_LAYOUT = "rgbd_dataset_freiburg3_sitting_xyz/groundtruth.txt with rgb/, rgb.txt, depth/ and depth.txt"
_FARTHEST_S = 0.02


def fits(folder: Path) -> bool:
    return first_line_words(folder / "groundtruth.txt") == 8


def read(folder: Path, depth_by_index: bool = False) -> PosedSet:
    path = folder / "groundtruth.txt"
    track = number_table(path, 8)
    track = track[np.argsort(track[:, 0], kind="stable")]
    images = _timed(folder, "rgb", ("rgb", "color"))
    if not images:
        raise InputError(f"{folder}: groundtruth.txt is there but no images; expected {_LAYOUT}")
    times = np.array([time for time, _ in images])
    nearest = _nearest(track[:, 0], times)
    near = np.abs(track[nearest, 0] - times) <= _FARTHEST_S
    if not near.any():
        raise InputError(
            f"{folder}: no image is within {_FARTHEST_S:g} s of a line of groundtruth.txt; "
            "expected times in seconds of the same clock"
        )
    rows = track[nearest]
    rotation = rotation_from_quat_xyzw(torch.from_numpy(rows[:, 4:])).numpy()
    return posed_set(
        folder,
        (image for _, image in images),
        np.concatenate([rotation, rows[:, 1:4, None]], axis=-1),
        path,
        depth=_depth(folder, times, depth_by_index),
        lost=~near,
    )


def _depth(folder: Path, times: Float64[np.ndarray, " views"], by_index: bool) -> DepthFiles | None:
    files = _timed(folder, "depth", ("depth",))
    if not files:
        return None
    if by_index:
        return DepthFiles.existing(
            (files[i][1] if i < len(files) else None for i in range(len(times))), 5000.0
        )
    depth_times = np.array([time for time, _ in files])
    nearest = _nearest(depth_times, times)
    near = np.abs(depth_times[nearest] - times) <= _FARTHEST_S
    return DepthFiles.existing((files[i][1] if good else None for i, good in zip(nearest, near)), 5000.0)


def _timed(folder: Path, listing: str, folders: tuple[str, ...]) -> list[tuple[float, Path]]:
    """(time, image), sorted: from the listing if there is one, else from the names of the images."""
    path = folder / f"{listing}.txt"
    if path.is_file():
        listed = [
            (numbers(words[:1], path, line)[0], resolve_inside(folder, words[1], path))
            for line, words in lines_of(path)
            if len(words) > 1
        ]
        missing = [file for _, file in listed if not file.is_file()]
        if missing:
            raise InputError(f"{path}: {missing[0]} does not exist; the download is not complete")
        return sorted(listed)
    timed = []
    for file in images_in(folder, *folders):
        try:
            timed.append((float(file.stem), file))
        except ValueError as error:
            raise InputError(f"{file}: expected a name that is its time in seconds, or {path}") from error
    return sorted(timed)


def _nearest(known: Float64[np.ndarray, " n"], wanted: Float64[np.ndarray, " m"]) -> np.ndarray:
    """Index of the value of `known`, which is sorted, nearest to each of `wanted`."""
    after = np.searchsorted(known, wanted).clip(1, max(1, len(known) - 1))
    before = after - 1
    after = after.clip(max=len(known) - 1)
    return np.where(wanted - known[before] <= known[after] - wanted, before, after)


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "rgbd_dataset_*"),),
    source="TUM, RGB-D SLAM Dataset and Benchmark",
    splits={
        "dynamics": "freiburg3_sitting_halfsphere freiburg3_sitting_rpy freiburg3_sitting_static "
        "freiburg3_sitting_xyz freiburg3_walking_halfsphere freiburg3_walking_rpy freiburg3_walking_static "
        "freiburg3_walking_xyz"
    },
    scene_prefix="rgbd_dataset_",
)
