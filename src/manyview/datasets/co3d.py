"""CO3Dv2 (Reizenstein et al., ICCV 2021): `CATEGORY/SEQUENCE/images/` with the category's annotations.

Cameras are PyTorch3D's: x_cam = x_world R + T with x to the left and y up. They become OpenCV's by negating
the first two columns of R and the first two numbers of T, and transposing R. They are read from
`CATEGORY/frame_annotations.jgz`, or from VGGT's extract `CATEGORY_test.jgz` in the root, in `annotations/`,
or in `co3d_v2_annotations/` in or beside the root.

The test set is that of VGGT's extract (4.1 and its preprocessing): sequences of the list "test" of
`set_lists_fewview_dev.json`, frames in its order, with a viewpoint quality above 0.5 in
`sequence_annotations.jgz`, at least 50 images and no camera at infinity. A whole download gives the same set.
"""

from __future__ import annotations

import gzip
import zlib
from functools import lru_cache
from pathlib import Path

import msgspec
import numpy as np

from ..errors import InputError
from ..files.paths import resolve_inside
from ..files.schema import Count, Finite, open_regular, parse_json, read_json, schema_errors
from ..geometry.unproject_np import invert_rigid
from .dataset import Dataset
from .image_files import image_size
from .posed_set import PosedSet, counted_note, posed_set

_LAYOUT = (
    "apple/110_13051_23361/images/frame000001.jpg with apple/{frame_annotations.jgz,sequence_annotations.jgz,"
    "set_lists/set_lists_fewview_dev.json} or co3d_v2_annotations/apple_test.jgz"
)
_LEAST_IMAGES = 50
_LEAST_QUALITY = 0.5
_MOST = 2**31  # bytes of unpacked annotations
_Vector = tuple[Finite, Finite, Finite]
_FAR = 1e5
"""Sequences in which the components of a T sum to more than this are dropped (the sum, as VGGT has it)."""
_SEEN = (
    "apple backpack banana baseballbat baseballglove bench bicycle bottle bowl broccoli cake car carrot "
    "cellphone chair cup donut hairdryer handbag hydrant keyboard laptop microwave motorcycle mouse orange "
    "parkingmeter pizza plant stopsign teddybear toaster toilet toybus toyplane toytrain toytruck tv "
    "umbrella vase wineglass"
)
_UNSEEN = "ball book couch frisbee hotdog kite remote sandwich skateboard suitcase"


def _annotation_file(category: Path) -> Path | None:
    """The annotations of a category: VGGT's extract first, as it names the test sequences."""
    name, root = f"{category.name}_test.jgz", category.parent
    places = (
        root / "annotations" / name,
        root / "co3d_v2_annotations" / name,
        root.parent / "co3d_v2_annotations" / name,
        root / name,
        category / "frame_annotations.jgz",
    )
    return next((path for path in places if path.is_file()), None)


class _Camera(msgspec.Struct):
    R: tuple[_Vector, _Vector, _Vector]
    T: _Vector
    focal_length: tuple[Finite, Finite]
    principal_point: tuple[Finite, Finite]
    intrinsics_format: str = "ndc_isotropic"


class _Frame(_Camera, kw_only=True):
    """A frame of VGGT's extract; `path` is relative to the root."""

    path: str = msgspec.field(name="filepath")
    size: tuple[Count, Count] | None = None
    """Width and height."""


class _Image(msgspec.Struct):
    path: str
    size: tuple[Count, Count] | None = None
    """Height and width."""


class _Annotation(msgspec.Struct):
    """A frame of `frame_annotations.jgz`."""

    sequence_name: str
    image: _Image
    viewpoint: _Camera


class _SetList(msgspec.Struct):
    """Sequence, number and image of the frames of each part."""

    test: list[tuple[str, int, str]]


class _Sequence(msgspec.Struct):
    """A sequence of `sequence_annotations.jgz`."""

    sequence_name: str
    viewpoint_quality_score: Finite


_REMEDY = "copy the annotations of CO3Dv2 again"


def _unpacked(path: Path) -> bytes:
    try:
        with open_regular(path) as packed, gzip.GzipFile(fileobj=packed) as file:
            return file.read(_MOST)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); {_REMEDY}") from error


@lru_cache(maxsize=2)
def _sequences(path: Path) -> dict[str, list[_Frame]]:
    """Frames by sequence."""
    data = _unpacked(path)
    with schema_errors(str(path), _REMEDY, InputError):
        if data.lstrip()[:1] == b"{":
            return parse_json(data, dict[str, list[_Frame]])
        found: dict[str, list[_Frame]] = {}
        for frame in parse_json(data, list[_Annotation]):
            camera = {name: getattr(frame.viewpoint, name) for name in _Camera.__struct_fields__}
            size = None if frame.image.size is None else (frame.image.size[1], frame.image.size[0])
            found.setdefault(frame.sequence_name, []).append(
                _Frame(**camera, path=frame.image.path, size=size)
            )
        return found


def _test_frames(category: Path) -> dict[str, list[_Frame]]:
    """Frames of the test sequences: the extract's; of a whole download those of its list, by quality."""
    path = _annotation_file(category)
    if path is None:
        return {}
    lists = category / "set_lists" / "set_lists_fewview_dev.json"
    if path.name.endswith("_test.jgz") or not lists.is_file():
        return _sequences(path)
    return _listed_frames(path, lists, category / "sequence_annotations.jgz")


@lru_cache(maxsize=2)
def _listed_frames(path: Path, lists: Path, qualities: Path) -> dict[str, list[_Frame]]:
    listed = read_json(lists, _SetList, remedy="copy the set lists of CO3Dv2 again", error=InputError)
    data = _unpacked(qualities)
    with schema_errors(str(qualities), _REMEDY, InputError):
        sequences = parse_json(data, list[_Sequence])
    good = {one.sequence_name for one in sequences if one.viewpoint_quality_score > _LEAST_QUALITY}
    known = _sequences(path)
    frames = {(name, frame.path): frame for name in good & known.keys() for frame in known[name]}
    found: dict[str, list[_Frame]] = {}
    for name, _, image in listed.test:
        if (name, image) in frames:
            found.setdefault(name, []).append(frames[name, image])
    return found


def _in_test_set(folder: Path) -> bool:
    """At least 50 images and no camera at infinity (VGGT, 4.1)."""
    sequence = folder.resolve()
    frames = _test_frames(sequence.parent).get(sequence.name, ())
    return len(frames) >= _LEAST_IMAGES and not any(sum(frame.T) > _FAR for frame in frames)


def fits(folder: Path) -> bool:
    sequence = folder.resolve()
    return (sequence / "images").is_dir() and _annotation_file(sequence.parent) is not None


def read(folder: Path) -> PosedSet:
    sequence = folder.resolve()
    path = _annotation_file(sequence.parent)
    if path is None:
        raise InputError(f"{folder}: has no annotations; expected {_LAYOUT}")
    frames = _test_frames(sequence.parent).get(sequence.name) or _sequences(path).get(sequence.name)
    if not frames:
        raise InputError(f"{path}: knows no sequence {sequence.name}; expected {_LAYOUT}")
    root = sequence.parent.parent
    places = [resolve_inside(root, frame.path, path) for frame in frames]
    there = [frame for frame, place in zip(frames, places) if place.is_file()]
    if not there:
        raise InputError(f"{folder}: none of its {len(frames)} images is there; the download is not complete")
    flip = np.array([-1.0, -1.0, 1.0])
    rotation = (np.array([frame.R for frame in there]) * flip).transpose(0, 2, 1)
    translation = np.array([frame.T for frame in there]) * flip
    return posed_set(
        folder,
        filter(Path.is_file, places),
        invert_rigid(np.concatenate([rotation, translation[..., None]], -1)),
        path,
        _intrinsics(there, root),
        notes=counted_note(len(frames) - len(there), f"of {len(frames)} images are not there"),
        unit="units",
        name=f"{sequence.parent.name}-{sequence.name}",
    )


def _intrinsics(frames: list[_Frame], root: Path) -> np.ndarray | None:
    """From PyTorch3D's isotropic NDC (shorter side = 2, x left, y up); None for another format."""
    if any(frame.intrinsics_format != "ndc_isotropic" for frame in frames):
        return None
    result = np.tile(np.eye(3), (len(frames), 1, 1))
    # A sequence is one video: all images have the size of the first, where it is not annotated.
    first = image_size(root / frames[0].path)
    for matrix, frame in zip(result, frames):
        size = np.array(frame.size or first)
        half = size.min() / 2
        matrix[[0, 1], [0, 1]] = np.array(frame.focal_length) * half
        matrix[:2, 2] = size / 2 - np.array(frame.principal_point) * half
    return result


def _categories(names: str) -> str:
    return " ".join(f"{name}/*" for name in sorted(names.split()))


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "*/*"),),
    source="facebookresearch/co3d, version 2",
    splits={"seen41": _categories(_SEEN), "all51": _categories(f"{_SEEN} {_UNSEEN}")},
    grouped=True,
    in_test_set=_in_test_set,
)
