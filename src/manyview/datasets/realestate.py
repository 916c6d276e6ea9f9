"""RealEstate10K (Zhou et al., SIGGRAPH 2018): `SEQUENCE.txt` of cameras and images named by their time.

Below the address of the video a line is `timestamp fx fy cx cy 0 0` and a 3x4 cam_from_world matrix (a scale
of its own a sequence); intrinsics are shares of width and height. Images are `TIMESTAMP.png` or `.jpg`, the
time in microseconds, in `SEQUENCE/` beside the file or in `frames/`.

Pi3's preparation is read as well: `SEQUENCE/annotations.json`, a list of frames with the path of the image
(`SEQUENCE/images/0000.png`, from the root), its intrinsics in pixels and a 4x4 cam_from_world matrix. The
split test1719 is pi3's list; videos disappear, so an evaluation takes those of it that are there and says how
many they are.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec
import numpy as np

from ..errors import InputError
from ..files.paths import resolve_inside
from ..files.schema import Finite, read_json
from ..geometry.unproject_np import invert_rigid
from .dataset import Dataset
from .image_files import image_size, images_in
from .posed_set import PosedSet, counted_note, posed_set
from .text_files import lines_of, numbers

_LAYOUT = "test/SEQUENCE.txt with frames/test/SEQUENCE/TIMESTAMP.png (or test/SEQUENCE/TIMESTAMP.png)"


_ANNOTATIONS = "annotations.json"
_Row3 = tuple[Finite, Finite, Finite]
_Row4 = tuple[Finite, Finite, Finite, Finite]


class _Frame(msgspec.Struct):
    """A frame of pi3's annotations."""

    filepath: str
    intrinsics: tuple[_Row3, _Row3, _Row3]
    extrinsics: tuple[_Row4, _Row4, _Row4, _Row4]


def _camera_file(folder: Path) -> Path | None:
    """The cameras of a folder of images: beside it, in it, or in SPLIT/ for images in frames/SPLIT/."""
    folder = folder.resolve()
    name = f"{folder.name}.txt"
    places = [folder.parent / name, folder / name]
    if folder.parent.parent.name == "frames":
        places.append(folder.parent.parent.parent / folder.parent.name / name)
    return next((path for path in places if path.is_file()), None)


def fits(folder: Path) -> bool:
    if _annotated(folder):
        return True
    path = _camera_file(folder)
    if path is None:
        return False
    try:
        rows = [words for _, words in lines_of(path)]
    except InputError:
        return False
    return len(rows) > 1 and len(rows[-1]) == 19


def _annotated(folder: Path) -> bool:
    return (folder / _ANNOTATIONS).is_file() and (folder / "images").is_dir()


def _read_annotations(folder: Path) -> PosedSet:
    sequence = folder.resolve()
    path = sequence / _ANNOTATIONS
    frames = read_json(path, list[_Frame], remedy="run pi3's preparation again", error=InputError)
    places = [resolve_inside(sequence.parent, frame.filepath, path) for frame in frames]
    there = [(place, frame) for place, frame in zip(places, frames) if place.is_file()]
    if not there:
        raise InputError(f"{folder}: none of the {len(frames)} images of {_ANNOTATIONS} is there")
    return posed_set(
        folder,
        (place for place, _ in there),
        invert_rigid(np.array([frame.extrinsics[:3] for _, frame in there])),
        path,
        np.array([frame.intrinsics for _, frame in there]),
        notes=_not_there(len(frames) - len(there), len(frames)),
        unit="units",
    )


def _not_there(count: int, total: int) -> tuple[str, ...]:
    return counted_note(count, f"of {total} frames are not downloaded")


def read(folder: Path) -> PosedSet:
    if _annotated(folder):
        return _read_annotations(folder)
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
        notes=_not_there(len(rows) - len(times), len(rows)),
        unit="units",
    )


def _test_1719() -> str:
    return resources.files(__package__).joinpath("realestate10k_test_1719.txt").read_text(encoding="ascii")


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("frames/test", "*"), ("RealEstate10K/test", "*"), ("test", "*"), ("", "*")),
    source="Google, RealEstate10K; frames from the videos themselves",
    # PoseDiffusion's 1,800 test sequences less those whose videos were gone, as VGGT and pi3 use them.
    splits={"test1719": _test_1719()},
    vanishing=True,
)
