"""COLMAP (Schoenberger and Frahm, CVPR 2016) on the images of a set, as a reference."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Sequence
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from PIL import Image

from ...errors import InputError, MissingExtraError
from ...files.schema import parse_json, read_regular
from ...files.writing import write_files
from ...refine.mapping.process import run_worker

_WORKER = Path(__file__).with_name("colmap_worker.py")


@dataclasses.dataclass(frozen=True, eq=False)
class CameraEstimate:
    """Cameras in the order of the images, NaN for those without one, and what it took.

    `lasting` is False where another run might do better (it ran out of time or crashed): such an estimate
    counts but is never taken over from earlier. `notes` say what happened, for whoever reads the row.
    `intrinsics` are in pixels of the images.
    """

    cam_from_world: Float64[np.ndarray, "views 3 4"]
    seconds: float
    notes: tuple[str, ...] = ()
    lasting: bool = True
    intrinsics: Float64[np.ndarray, "views 3 3"] | None = None

    @property
    def given(self) -> np.ndarray:
        """bool [views]: which views have a camera."""
        return np.isfinite(self.cam_from_world).all(axis=(1, 2))


@dataclasses.dataclass(frozen=True)
class MapperOptions:
    """Incremental mapping from scratch: SIFT, all pairs matched (above `exhaustive` images each with those
    near in order, at 1 to `overlap` and at powers of two), one mapping thread, everything on the CPU.

    `camera_model`: intrinsics are found, not given, and shared by all images where these have one size
    (COLMAP starts from EXIF focal lengths where there are any). `max_image_size` in pixels of the longer
    side. A model has at least `min_model_size` views. `limit_s` seconds are all it gets.
    """

    camera_model: str = "SIMPLE_RADIAL"
    max_image_size: int = 1600
    exhaustive: int = 150
    overlap: int = 10
    min_model_size: int = 3
    seed: int = 0
    limit_s: float = 3600.0

    def __post_init__(self) -> None:
        if self.camera_model not in ("SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"):
            raise ValueError(f"camera_model {self.camera_model!r} is none that COLMAP finds by itself")
        if min(self.max_image_size, self.exhaustive, self.overlap, self.min_model_size - 1) < 1:
            raise ValueError(
                "max_image_size, exhaustive and overlap are positive, and min_model_size is at least 2"
            )
        if self.limit_s <= 0 or self.seed < 0:
            raise ValueError(f"limit_s is positive and seed not negative, not {self.limit_s} and {self.seed}")


def require_colmap() -> None:
    """MissingExtraError without pycolmap; it is not imported."""
    if util.find_spec("pycolmap") is None:
        raise MissingExtraError("the reference colmap", "colmap")


def colmap_settings(options: MapperOptions | None = None) -> dict[str, Any]:
    """All that decides its cameras but the images, as JSON types."""
    return {
        **dataclasses.asdict(options or MapperOptions()),
        "pycolmap": _version(),
        "worker": _worker_digest(),
    }


def colmap_estimate(
    images: Sequence[Path],
    options: MapperOptions | None = None,
    folder: Path | None = None,
    threads: int = -1,
) -> CameraEstimate:
    """Cameras of the largest model of these images, in arbitrary scale; NaN for the others.

    Whatever goes wrong inside is an estimate without cameras and a note that says why. `folder` keeps
    results by digest of images, settings and versions, and gives them back. `threads` for features and
    matches (-1: all), which change no number. Errors: MissingExtraError without pycolmap, InputError for a
    image that cannot be opened.
    """
    require_colmap()
    options = options or MapperOptions()
    cache = None if folder is None else folder / f"colmap.{_digest(images, options)[:20]}.json"
    if cache is not None:
        earlier = _read(cache, len(images))
        if earlier is not None:
            return earlier
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="manyview-colmap-") as work:
        result, lasting = _run(images, options, Path(work), threads)
    estimate = _estimate(result, len(images), time.monotonic() - began, lasting)
    if cache is not None and lasting:
        _write(cache, estimate)
    return estimate


def _run(
    images: Sequence[Path], options: MapperOptions, work: Path, threads: int
) -> tuple[dict[str, Any], bool]:
    """(the worker's result, whether another run would give the same)."""
    folder = work / "images"
    folder.mkdir()
    for index, path in enumerate(images):
        place = folder / f"{index:06}{path.suffix.lower()}"
        try:
            os.symlink(path.resolve(), place)
        except OSError:  # no links on this file system
            place.write_bytes(path.read_bytes())
    request = {
        **dataclasses.asdict(options),
        "work": str(work),
        "threads": threads,
        "one_camera": len({_size(path) for path in images}) == 1,
        "sequential": len(images) > options.exhaustive,
    }
    found = run_worker(_WORKER, request, work, options.limit_s)
    lasting = bool(found.pop("lasting", True))
    # Messages must not carry the names of temporary folders into result files.
    return json.loads(json.dumps(found).replace(f"{work}/", "")), lasting


def _estimate(result: dict[str, Any], views: int, seconds: float, lasting: bool) -> CameraEstimate:
    cameras, intrinsics = np.full((views, 3, 4), np.nan), np.full((views, 3, 3), np.nan)
    found = result.get("cameras", {})
    for name, matrix in found.items():
        cameras[int(Path(name).stem)] = matrix
        intrinsics[int(Path(name).stem)] = result["intrinsics"][name]
    if "error" in result:
        note = f"no reconstruction: {result['error']}"
    elif not found:
        note = "no reconstruction: COLMAP found no pair of images to begin with"
    else:
        note = (
            f"{len(found)} of {views} views in the largest of {result['models']} models, "
            f"{result['points']} points, {result['reprojection_px']:.2f} px; sparse, so no depth"
        )
    return CameraEstimate(cameras, seconds, (f"colmap: {note}",), lasting, intrinsics)


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise InputError(f"{path}: cannot be read as an image ({error}); copy it again") from error


def _digest(images: Sequence[Path], options: MapperOptions) -> str:
    whole = hashlib.sha256(json.dumps(colmap_settings(options), sort_keys=True).encode())
    for path in images:
        with path.open("rb") as file:
            whole.update(hashlib.file_digest(file, "sha256").digest())
    return whole.hexdigest()


def _read(path: Path, views: int) -> CameraEstimate | None:
    """What `_write` wrote; None for nothing or anything else."""
    try:
        data = parse_json(read_regular(path), dict)
        cameras, intrinsics = np.full((views, 3, 4), np.nan), np.full((views, 3, 3), np.nan)
        for index, matrix in data["cameras"].items():
            cameras[int(index)] = matrix
            intrinsics[int(index)] = data["intrinsics"][index]
        return CameraEstimate(cameras, float(data["seconds"]), tuple(data["notes"]), intrinsics=intrinsics)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError):
        return None


def _write(path: Path, estimate: CameraEstimate) -> None:
    given = np.flatnonzero(estimate.given)
    assert estimate.intrinsics is not None
    data = {
        "cameras": {str(index): estimate.cam_from_world[index].tolist() for index in given},
        "intrinsics": {str(index): estimate.intrinsics[index].tolist() for index in given},
        "seconds": estimate.seconds,
        "notes": list(estimate.notes),
    }
    write_files(path.parent, {path.name: json.dumps(data, allow_nan=False)})


def _version() -> str | None:
    try:
        return metadata.version("pycolmap")
    except metadata.PackageNotFoundError:
        return None


@lru_cache(maxsize=1)
def _worker_digest() -> str:
    return hashlib.sha256(_WORKER.read_bytes()).hexdigest()
