"""TUM RGB-D (Sturm et al., IROS 2012): `groundtruth.txt`, `rgb/` and optionally `depth/`.

A line of the track is `timestamp tx ty tz qx qy qz qw`, world_from_cam in metres, quaternion scalar last.
Images carry their time as name (or in `rgb.txt`) and get the camera nearest in time, at most 20 ms away; so
do depth maps, 16 bit with 5000 a metre, 0 for no measurement, registered to the colour.

Intrinsics are the page's calibration of the colour camera that the folder's name (or the one above it) tells:
freiburg1 to 3, or fr1 to 3; others have none. Images of freiburg3 are rectified; those of freiburg1 and 2
have lens distortion, which is left out. MonST3R's preparation, `rgb_90/` and `groundtruth_90.txt` (every
third image that has a camera, which pi3 uses too), is read where the original is not there.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from ..errors import InputError
from ..files.paths import resolve_inside
from ..geometry.cameras import rotation_from_quat_xyzw
from .dataset import Dataset
from .depth_files import DepthFiles
from .image_files import image_size, images_in
from .posed_set import PosedSet, posed_set
from .text_files import first_line_words, lines_of, number_table, numbers

_LAYOUT = "rgbd_dataset_freiburg3_sitting_xyz/groundtruth.txt with rgb/, rgb.txt, depth/ and depth.txt"
_FARTHEST_S = 0.02
_PREPARED, _STRIDE = "_90", 3
# fx, fy, cx, cy of images of 640x480, pixel centres at whole numbers.
_CALIBRATION = {
    "1": (517.3, 516.5, 318.6, 255.3),
    "2": (520.9, 521.0, 325.1, 249.7),
    "3": (535.4, 539.2, 320.1, 247.6),
}
_SIZE = 640, 480
_CAMERA = re.compile(r"(?:^|[^a-z])(?:freiburg|fr)([123])(?![0-9])")


def fits(folder: Path) -> bool:
    return any(first_line_words(folder / f"groundtruth{end}.txt") == 8 for end in ("", _PREPARED))


def read(folder: Path) -> PosedSet:
    if not is_prepared(folder, _PREPARED):
        return read_part(folder)
    found = read_part(folder, _PREPARED)
    return dataclasses.replace(found, positions=tuple(range(0, _STRIDE * len(found), _STRIDE)))


def is_prepared(folder: Path, end: str) -> bool:
    """Whether there are images in `rgb{end}/` and no original ones."""
    return (folder / f"rgb{end}").is_dir() and not images_in(folder, "rgb", "color")


def read_part(folder: Path, end: str = "", depth_by_index: bool = False) -> PosedSet:
    """`rgb{end}/` and `depth{end}/` with the cameras of `groundtruth{end}.txt`."""
    path = folder / f"groundtruth{end}.txt"
    track = number_table(path, 8)
    track = track[np.argsort(track[:, 0], kind="stable")]
    images = _timed(folder, f"rgb{end}", (f"rgb{end}",) if end else ("rgb", "color"))
    if not images:
        raise InputError(f"{folder}: {path.name} is there but no images; expected {_LAYOUT}")
    times = np.array([time for time, _ in images])
    nearest = _nearest(track[:, 0], times)
    near = np.abs(track[nearest, 0] - times) <= _FARTHEST_S
    if not near.any() and not depth_by_index:
        raise InputError(
            f"{folder}: no image is within {_FARTHEST_S:g} s of a line of {path.name}; "
            "expected times in seconds of the same clock"
        )
    rows = track[nearest]
    rotation = rotation_from_quat_xyzw(torch.from_numpy(rows[:, 4:])).numpy()
    return posed_set(
        folder,
        (image for _, image in images),
        np.concatenate([rotation, rows[:, 1:4, None]], axis=-1),
        path,
        _calibration(folder, images[0][1]),
        _depth(folder, f"depth{end}", times, depth_by_index),
        lost=~near,
    )


def _calibration(folder: Path, image: Path) -> Float64[np.ndarray, "3 3"] | None:
    """For images as they are stored: smaller ones of the same shape are scaled; None for other shapes."""
    names = folder.resolve().parts[-1:-3:-1]
    match = next((match for name in names if (match := _CAMERA.search(name.lower()))), None)
    width, height = image_size(image)
    if match is None or width * _SIZE[1] != height * _SIZE[0]:
        return None
    fx, fy, cx, cy = _CALIBRATION[match[1]]
    scale = width / _SIZE[0]
    return np.array([[scale * fx, 0, scale * (cx + 0.5)], [0, scale * fy, scale * (cy + 0.5)], [0, 0, 1]])


def _depth(
    folder: Path, name: str, times: Float64[np.ndarray, " views"], by_index: bool
) -> DepthFiles | None:
    files = _timed(folder, name, (name,))
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
