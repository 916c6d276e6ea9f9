"""CO3Dv2 (Reizenstein et al., ICCV 2021): `CATEGORY/SEQUENCE/images/` with the category's annotations.

Cameras are PyTorch3D's: x_cam = x_world R + T with x to the left and y up. They are turned into OpenCV's by
negating the first two columns of R and the first two numbers of T, and transposing R. They are read from
`CATEGORY/frame_annotations.jgz`, or from VGGT's extract `CATEGORY_test.jgz` in the root or `annotations/`.
"""

from __future__ import annotations

import gzip
import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .posed_set import PosedSet, cameras_from_world_from_cam

FORMAT = "co3d"
LOOKS_FOR = "CATEGORY/SEQUENCE/images/ with CATEGORY/frame_annotations.jgz or annotations/CATEGORY_test.jgz"
_FAR = 1e5
"""Sequences in which the components of a T sum to more than this are dropped, as VGGT does."""


def annotation_file(category: Path) -> Path | None:
    """The annotations of a category: VGGT's extract first, as it names the test sequences."""
    name = f"{category.name}_test.jgz"
    places = (
        category.parent / "annotations" / name,
        category.parent / name,
        category / "frame_annotations.jgz",
    )
    return next((path for path in places if path.is_file()), None)


@lru_cache(maxsize=2)
def sequences(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Frames by sequence: picture (relative to the root), R, T, focal_length, principal_point."""
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            data = json.load(file)
        if isinstance(data, dict):
            return {name: [{**f, "path": f["filepath"]} for f in frames] for name, frames in data.items()}
        found: dict[str, list[dict[str, Any]]] = {}
        for frame in data:
            found.setdefault(frame["sequence_name"], []).append(
                {
                    **frame["viewpoint"],
                    "path": frame["image"]["path"],
                    # Annotated as height and width.
                    "size": frame["image"].get("size", [])[::-1] or None,
                }
            )
        return found
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: cannot be read as annotations of CO3Dv2 ({error}); copy it again"
        ) from error


def test_sequences(category: Path) -> frozenset[str] | None:
    """The test sequences of the few-view set of a whole download; None: all that the annotations know."""
    path = category / "set_lists" / "set_lists_fewview_dev.json"
    file = annotation_file(category)
    if not path.is_file() or file is None or file.name.endswith("_test.jgz"):
        return None
    try:
        return frozenset(entry[0] for entry in json.loads(path.read_text(encoding="utf-8"))["test"])
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise InputError(
            f"{path}: cannot be read as a set list of CO3Dv2 ({error}); copy it again"
        ) from error


def usable(frames: list[dict[str, Any]], least: int) -> bool:
    """Whether a sequence counts: `least` pictures and no camera at infinity."""
    return len(frames) >= least and all(abs(sum(frame["T"])) <= _FAR for frame in frames)


def fits(folder: Path) -> bool:
    """Whether the folder looks like a sequence of this dataset."""
    own = folder.resolve()
    return (own / "images").is_dir() and annotation_file(own.parent) is not None


def read(folder: Path) -> PosedSet:
    """The sequence in the folder. InputError for one that the annotations do not know."""
    own = folder.resolve()
    path = annotation_file(own.parent)
    if path is None:
        raise InputError(f"{folder}: has no annotations; expected {LOOKS_FOR}")
    frames = sequences(path).get(own.name)
    if not frames:
        raise InputError(f"{path}: knows no sequence {own.name}; expected {LOOKS_FOR}")
    root = own.parent.parent
    there = [frame for frame in frames if (root / frame["path"]).is_file()]
    if not there:
        raise InputError(
            f"{folder}: none of its {len(frames)} pictures is there; the download is not complete"
        )
    flip = np.array([-1.0, -1.0, 1.0])
    rotation = (np.array([frame["R"] for frame in there]) * flip).transpose(0, 2, 1)
    translation = np.array([frame["T"] for frame in there]) * flip
    pose = np.concatenate([rotation, translation[..., None]], -1)
    absent = len(frames) - len(there)
    return PosedSet(
        name=f"{own.parent.name}-{own.name}",
        format=FORMAT,
        images=tuple(root / frame["path"] for frame in there),
        cam_from_world=cameras_from_world_from_cam(invert_rigid(pose), str(path)),
        intrinsics=_intrinsics(there, root),
        notes=(f"{absent} of {len(frames)} pictures are not there",) if absent else (),
        unit="units",
    )


def _intrinsics(frames: list[dict[str, Any]], root: Path) -> np.ndarray | None:
    """From PyTorch3D's isotropic NDC (shorter side = 2, x left, y up); None for another format."""
    if any(frame.get("intrinsics_format", "ndc_isotropic") != "ndc_isotropic" for frame in frames):
        return None
    result = np.tile(np.eye(3), (len(frames), 1, 1))
    # A sequence is one video, so one picture tells the size of all that do not tell their own.
    with Image.open(root / frames[0]["path"]) as picture:
        first = picture.size
    for matrix, frame in zip(result, frames):
        size = np.array(frame.get("size") or first)
        half = size.min() / 2
        matrix[[0, 1], [0, 1]] = np.array(frame["focal_length"]) * half
        matrix[:2, 2] = size / 2 - np.array(frame["principal_point"]) * half
    return result
