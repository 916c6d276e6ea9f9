"""RealEstate10K (Zhou et al., SIGGRAPH 2018): `SEQUENCE.txt` of cameras and images named by their time.

Below the address of the video a line is `timestamp fx fy cx cy 0 0` and a 3x4 cam_from_world matrix (a scale
of its own a sequence); intrinsics are shares of width and height. Images are `TIMESTAMP.png` or `.jpg`, the
time in microseconds, in `SEQUENCE/` beside the file or in `frames/`.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .dataset import Dataset
from .image_files import image_size, images_in
from .posed_set import PosedSet, counted_note, posed_set
from .text_files import lines_of, numbers

_LAYOUT = "test/SEQUENCE.txt with frames/test/SEQUENCE/TIMESTAMP.png (or test/SEQUENCE/TIMESTAMP.png)"


def _camera_file(folder: Path) -> Path | None:
    """The cameras of a folder of images: beside it, in it, or in SPLIT/ for images in frames/SPLIT/."""
    folder = folder.resolve()
    name = f"{folder.name}.txt"
    places = [folder.parent / name, folder / name]
    if folder.parent.parent.name == "frames":
        places.append(folder.parent.parent.parent / folder.parent.name / name)
    return next((path for path in places if path.is_file()), None)


def fits(folder: Path) -> bool:
    path = _camera_file(folder)
    if path is None:
        return False
    try:
        rows = [words for _, words in lines_of(path)]
    except InputError:
        return False
    return len(rows) > 1 and len(rows[-1]) == 19


def read(folder: Path) -> PosedSet:
    path = _camera_file(folder)
    if path is None:
        raise InputError(f"{folder}: has no cameras; expected {_LAYOUT}")
    images = {image.stem: image for image in images_in(folder)}
    rows = {}
    for line, words in lines_of(path):
        if len(words) == 1:  # the address of the video
            continue
        if len(words) != 19 or not words[0].isdecimal():
            raise InputError(f"{path}: line {line} has {len(words)} words, expected a time and 18 numbers")
        rows[words[0]] = numbers(words[1:], path, line)
    times = [time for time in sorted(rows, key=int) if time in images]
    if not times:
        raise InputError(f"{folder}: no image has the name of a timestamp in {path}; expected {_LAYOUT}")
    table = np.array([rows[time] for time in times])
    width, height = image_size(images[times[0]])
    intrinsics = np.tile(np.eye(3), (len(times), 1, 1))
    intrinsics[:, 0, 0], intrinsics[:, 1, 1] = table[:, 0] * width, table[:, 1] * height
    intrinsics[:, 0, 2], intrinsics[:, 1, 2] = table[:, 2] * width, table[:, 3] * height
    return posed_set(
        folder,
        (images[time] for time in times),
        invert_rigid(table[:, 6:].reshape(-1, 3, 4)),
        path,
        intrinsics,
        notes=counted_note(len(rows) - len(times), f"of {len(rows)} frames are not downloaded"),
        unit="units",
    )


def _test_1719() -> str:
    return resources.files(__package__).joinpath("realestate10k_test_1719.txt").read_text(encoding="ascii")


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("frames/test", "*"), ("RealEstate10K/test", "*"), ("test", "*")),
    source="Google, RealEstate10K; frames from the videos themselves",
    # PoseDiffusion's 1,800 test sequences less those whose videos were gone, as VGGT and pi3 use them.
    splits={"test1719": _test_1719()},
    vanishing=True,
)
