"""SpatialBench (arXiv 2605.27367): scenes of nineteen data sets, each cut down to pinned frames.

A scene is DENSITY/SOURCE/SCENE/ (density single, sparse, medium or dense; SCENE may be several folders):
`images/`, `depths/`, `poses/` (a world_from_cam .npy a frame, metres) and `intrinsics/` are each in the order
of their names, frame k of one belongs to frame k of the others, and all of them are used. `meta.json` says
how depth is encoded. Truth clouds are pointcloud/SOURCE/.../*.ply beside the densities.

The benchmark's loader cuts and resizes the frames of each source to one size (`PosedSet.frames`), beyond a
distance of its own depth does not count, and it mirrors frames of RLBench and undistorts those of ScanNet++.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..files.naming import is_clutter
from ..files.schema import read_json
from .dataset import Dataset
from .fixed_frames import Undistortion
from .posed_set import PosedSet, check_intrinsics, posed_set
from .spatialbench_depth import FORMATS, EncodedDepth, known_format
from .spatialbench_frames import DENSITIES, SOURCES, SpatialBenchFrames
from .text_files import half_pixel_centres

_ONLY_DENSE, _ONLY_SINGLE, _NEVER_DENSE = ("kitti_odometry",), ("lingbot",), ("dtu", "eth3d", "hiroom")
_EVERYWHERE = [s for s in SOURCES if s not in (*_ONLY_DENSE, *_ONLY_SINGLE, *_NEVER_DENSE)]
SCENES = {"single": 179, "sparse": 129, "medium": 129, "dense": 109}
"""How many the benchmark lists of each density."""
_LAYOUT = "7scenes/chess_seq-05/0/ with meta.json, images/, depths/, poses/ and intrinsics/"
_NO_MATRICES = ("intrinsic.npy", "K_rect.npy", "K_distorted.npy", "distortion_coeffs.npy")


class _Mirrored(msgspec.Struct):
    basename: str
    flip_lr: bool = False
    flip_ud: bool = False


class _Meta(msgspec.Struct):
    """What is read of meta.json; it holds more."""

    depth_format: str
    intrinsic_mode: str = "shared"
    pose: Any = None
    metric_scale: float | None = None
    pyrep_flip: list[_Mirrored] | None = None
    image_state: str | None = None
    frame_indices: list[int] | None = None


def fits(folder: Path) -> bool:
    place = _place(folder)
    return place is not None and ((folder / "meta.json").is_file() or (folder / "images").is_dir())


def read(folder: Path) -> PosedSet:
    place = _place(folder)
    if place is None:
        raise InputError(f"{folder}: lies in no folder DENSITY/SOURCE; expected sparse/{_LAYOUT}")
    root, source, scene = place
    meta = read_json(
        folder / "meta.json", _Meta, remedy="complete the download and unpack it again", error=InputError
    )
    if not known_format(meta.depth_format):
        raise InputError(
            f"{folder / 'meta.json'}: depth_format is {meta.depth_format!r}; expected {', '.join(FORMATS)}"
        )
    images = _files(folder / "images", (".png", ".jpg", ".jpeg"))
    if not images:
        raise InputError(f"{folder / 'images'}: holds no image; complete the download")
    count, asked = len(images), meta.frame_indices
    if asked is not None and len(asked) != count:
        raise InputError(f"{folder}: has {count} images of {len(asked)} frames; complete the download")
    world_from_cam = None if meta.pose == "none" else _poses(folder / "poses", count)
    intrinsics = _intrinsics(folder / "intrinsics", meta, count, shared=source == "scannetpp")
    notes: tuple[str, ...] = ()
    mirrored = tuple((one.basename, one.flip_lr, one.flip_ud) for one in meta.pyrep_flip or ())
    if mirrored:
        notes = (f"{len(mirrored)} images are stored mirrored; the benchmark's frames of them are not",)
    undistortion = None
    if source == "scannetpp" and meta.image_state == "distorted_original" and intrinsics is not None:
        undistortion = _undistortion(folder / "intrinsics", intrinsics[0])
        notes = (*notes, "images are stored distorted; the benchmark's frames of them are not")
    common: dict[str, Any] = {
        "depth": _depth(folder, source, meta, count),
        "notes": notes,
        "cloud": _cloud(root, source, scene),
        "name": "/".join((source, *scene)),
    }
    if world_from_cam is not None:
        found = posed_set(folder, images, world_from_cam, folder / "poses", intrinsics, **common)
    else:
        nowhere = np.full((count, 3, 4), np.nan)
        found = PosedSet(images=images, cam_from_world=nowhere, intrinsics=intrinsics, **common)
    frames = SpatialBenchFrames(SOURCES[source].height, mirrored, undistortion)
    return dataclasses.replace(found, frames=frames)


def _place(folder: Path) -> tuple[Path, str, tuple[str, ...]] | None:
    """(root, source, path of the scene as parts) of a folder DENSITY/SOURCE/SCENE."""
    whole = folder.resolve()
    for parent in whole.parents:
        source, *scene = whole.relative_to(parent).parts
        if parent.name in DENSITIES and source in SOURCES and scene:
            return parent.parent, source, tuple(scene)
    return None


def _files(folder: Path, suffixes: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """In the order of their names as text, which is that of the benchmark; none of a missing folder."""
    if not folder.is_dir():
        return ()
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not is_clutter(path.name))
    return tuple(folder / name for name in names if not suffixes or Path(name).suffix.lower() in suffixes)


def _as_many(folder: Path, found: Sequence[Path], count: int) -> None:
    if len(found) != count:
        raise InputError(f"{folder}: has {len(found)} files for {count} images; complete the download")


def _matrix(path: Path, rows: int, columns: int) -> Float64[np.ndarray, "rows columns"]:
    try:
        matrix = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read as a matrix ({error}); copy it again") from error
    if matrix.ndim != 2 or matrix.shape[0] < rows or matrix.shape[1] != columns or matrix.dtype.kind != "f":
        raise InputError(f"{path}: expected a {rows}x{columns} matrix, not {matrix.dtype} {matrix.shape}")
    return matrix[:rows].astype(np.float64)


def _poses(folder: Path, count: int) -> Float64[np.ndarray, "views 3 4"] | None:
    """None without a pose."""
    paths = _files(folder, (".npy",))
    if not paths:
        return None
    _as_many(folder, paths, count)
    return np.stack([_matrix(path, 3, 4) for path in paths])


def _intrinsics(
    folder: Path, meta: _Meta, count: int, shared: bool
) -> Float64[np.ndarray, "views 3 3"] | None:
    """One for all, or one a frame; pixel centres at +0.5."""
    if shared or meta.intrinsic_mode == "shared":
        matrices = np.repeat(_matrix(folder / "intrinsic.npy", 3, 3)[None], count, 0)
    else:
        paths = [path for path in _files(folder, (".npy",)) if path.name not in _NO_MATRICES]
        _as_many(folder, paths, count)
        matrices = np.stack([_matrix(path, 3, 3) for path in paths])
    matrices = half_pixel_centres(matrices)
    check_intrinsics(matrices, folder)
    return matrices


def _undistortion(folder: Path, intrinsics: Float64[np.ndarray, "3 3"]) -> Undistortion:
    path = folder / "distortion_coeffs.npy"
    try:
        coefficients = np.load(path, allow_pickle=False).astype(np.float64).ravel()
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"{path}: cannot be read ({error}); copy it again") from error
    if not 4 <= coefficients.size <= 8:
        raise InputError(f"{path}: holds {coefficients.size} numbers, expected the 4 to 8 of OpenCV's model")
    lens = half_pixel_centres(_matrix(folder / "K_distorted.npy", 3, 3))
    return Undistortion(intrinsics, lens, tuple(coefficients.tolist()))


def _depth(folder: Path, source: str, meta: _Meta, count: int) -> EncodedDepth | None:
    if meta.depth_format == "none":
        return None
    paths = _files(folder / "depths")
    _as_many(folder / "depths", paths, count)

    def beside(name: str) -> tuple[Path, ...]:
        found = () if source == "scannetpp" else _files(folder / name, (".png", ".jpg", ".jpeg"))
        if found:
            _as_many(folder / name, found, count)
        return found

    masks = [beside(name) for name in ("depth_masks", "aliasing_masks")[: 1 if source == "hiroom" else 2]]
    nothing: tuple[None, ...] = (None,) * count
    return EncodedDepth(
        paths,
        farthest=SOURCES[source].farthest,
        form=meta.depth_format,
        metric_scale=1.0 if meta.metric_scale is None else meta.metric_scale,
        masks=tuple(zip(*(found for found in masks if found))) or ((),) * count,
        skies=beside("sky_masks") or nothing,
        confidences=beside("conf_masks") or nothing,
        nearest_only=source == "ropedia",
        frames=nothing,
    )


def _cloud(root: Path, source: str, scene: tuple[str, ...]) -> Path | None:
    """The truth of the scene, or of the nearest folder above that has one.

    Of several files of a folder above the one whose name holds the next part of the scene's, where that is
    not all digits; else the first.
    """
    for level in range(len(scene), -1, -1):
        found = _files(root.joinpath("pointcloud", source, *scene[:level]), (".ply",))
        if found:
            part = scene[level] if level < len(scene) else ""
            named = [path for path in found if part and not part.isdigit() and part in path.name]
            return (named or list(found))[0]
    return None


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "**/"),),
    source="huggingface.co/datasets/ropedia-ai/SpatialBenchmark, unpacked",
    splits={
        density: " ".join(
            [
                *_EVERYWHERE,
                *(_NEVER_DENSE if density != "dense" else _ONLY_DENSE),
                *(_ONLY_SINGLE if density == "single" else ()),
            ]
        )
        for density in DENSITIES
    },
    grouped=True,
)
