"""A COLMAP model's cameras and images, from text or binary files (Schönberger and Frahm, CVPR 2016)."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from ..errors import InputError
from ..files.naming import natural_key
from ..files.paths import resolve_inside
from ..files.schema import read_regular
from ..geometry.cameras import rotation_from_quat_xyzw
from ..geometry.unproject_np import nearest_rigid
from .text_files import lines_of, numbers

# Name and number of parameters, in the order of their numbers in binary files.
_MODELS = (
    ("SIMPLE_PINHOLE", 3),
    ("PINHOLE", 4),
    ("SIMPLE_RADIAL", 4),
    ("RADIAL", 5),
    ("OPENCV", 8),
    ("OPENCV_FISHEYE", 8),
    ("FULL_OPENCV", 12),
    ("FOV", 5),
    ("SIMPLE_RADIAL_FISHEYE", 4),
    ("RADIAL_FISHEYE", 5),
    ("THIN_PRISM_FISHEYE", 12),
)
_ONE_FOCAL = frozenset(
    {"SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "SIMPLE_RADIAL_FISHEYE", "RADIAL_FISHEYE"}
)


_MOST = 2**33  # bytes of a file: images.bin holds all points of all images
MODEL_FOLDERS = ("sparse/0", "sparse", ".", "colmap/sparse/0")


@dataclasses.dataclass(frozen=True)
class ColmapCamera:
    """`parameters` in COLMAP's order for `model`; the image's corner is (0, 0)."""

    model: str
    width: int
    height: int
    parameters: tuple[float, ...]

    @property
    def intrinsics(self) -> Float64[np.ndarray, "3 3"]:
        """Focal lengths and principal point, without distortion; pixel centres at +0.5."""
        p = self.parameters
        fx, fy, cx, cy = (p[0], p[0], p[1], p[2]) if self.model in _ONE_FOCAL else p[:4]
        return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=np.float64)

    @property
    def distortion(self) -> tuple[float, ...]:
        """The parameters beyond focal lengths and principal point."""
        return self.parameters[3 if self.model in _ONE_FOCAL else 4 :]


@dataclasses.dataclass(frozen=True)
class ColmapImage:
    """`name` is relative to the folder of images."""

    name: str
    camera: int
    cam_from_world: Float64[np.ndarray, "3 4"]


def model_folder(folder: Path, names: tuple[str, ...] = MODEL_FOLDERS) -> Path | None:
    """The first of these sub-folders that holds a model."""
    for name in names:
        for suffix in (".txt", ".bin"):
            if all((folder / name / f"{part}{suffix}").is_file() for part in ("cameras", "images")):
                return folder / name
    return None


def read_views(folder: Path) -> list[tuple[ColmapImage, ColmapCamera]]:
    """Every image with its camera, in the order of the file; text is preferred. InputError if damaged."""
    try:
        if (folder / "images.txt").is_file():
            cameras, images = _cameras_text(folder / "cameras.txt"), _images_text(folder / "images.txt")
        else:
            cameras, images = _cameras_binary(folder / "cameras.bin"), _images_binary(folder / "images.bin")
    except (struct.error, IndexError, ValueError, OverflowError, OSError) as error:
        raise InputError(f"{folder}: holds no whole COLMAP model ({error}); export it again") from error
    for image in images:
        if image.camera not in cameras:
            raise InputError(f"{folder}: camera {image.camera} of {image.name} is missing; export it again")
        if not nearest_rigid(image.cam_from_world)[1]:
            raise InputError(f"{folder}: the pose of {image.name} is not finite and rigid; export it again")
    for number, camera in cameras.items():
        sizes = 0 < camera.width < 2**24 and 0 < camera.height < 2**24
        finite = np.isfinite(camera.parameters).all() and np.abs(camera.parameters).max() < 1e9
        if not (sizes and finite and camera.intrinsics[0, 0] > 0 and camera.intrinsics[1, 1] > 0):
            raise InputError(
                f"{folder}: camera {number} of {camera.width}x{camera.height} pixels has a size, a focal "
                "length or another parameter that no camera has; export it again"
            )
    return [(image, cameras[image.camera]) for image in images]


def views_with_images(
    views: Sequence[tuple[ColmapImage, ColmapCamera]], folder: Path, model: Path
) -> list[tuple[Path, ColmapImage, ColmapCamera]]:
    """The views of `model` whose images are in a folder, in natural order of their names.

    Raises InputError for a name that leads out of the folder.
    """
    ordered = sorted(views, key=lambda view: natural_key(view[0].name))
    paths = (resolve_inside(folder, image.name, model) for image, _ in ordered)
    return [(path, *view) for path, view in zip(paths, ordered, strict=True) if path.is_file()]


def _pose(quat_wxyz: list[float], translation: list[float]) -> np.ndarray:
    w, x, y, z = quat_wxyz
    rotation = rotation_from_quat_xyzw(torch.tensor([x, y, z, w], dtype=torch.float64)).numpy()
    return np.concatenate([rotation, np.array(translation)[:, None]], axis=1)


def _cameras_text(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for line, words in lines_of(path):
        parameters = tuple(numbers(words[4:], path, line))
        if dict(_MODELS).get(words[1]) != len(parameters):
            raise ValueError(f"line {line} of {path.name}: {words[1]} with {len(parameters)} parameters")
        cameras[int(words[0])] = ColmapCamera(words[1], int(words[2]), int(words[3]), parameters)
    return cameras


def _images_text(path: Path) -> tuple[ColmapImage, ...]:
    # The second line of each image, its points, may be empty, so empty lines count here.
    text = read_regular(path, _MOST).decode("utf-8", "surrogateescape")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    images = []
    for line in lines[::2]:
        words = line.split(maxsplit=9)
        if not words:
            continue
        values = [float(word) for word in words[1:8]]
        images.append(ColmapImage(words[9].strip(), int(words[8]), _pose(values[:4], values[4:])))
    return tuple(images)


def _cameras_binary(path: Path) -> dict[int, ColmapCamera]:
    data = read_regular(path, _MOST)
    (count,), at, cameras = struct.unpack_from("<Q", data), 8, {}
    for _ in range(count):
        number, kind, width, height = struct.unpack_from("<iiQQ", data, at)
        if not 0 <= kind < len(_MODELS):
            raise ValueError(f"{path.name}: there is no camera model {kind}")
        name, length = _MODELS[kind]
        cameras[number] = ColmapCamera(name, width, height, struct.unpack_from(f"<{length}d", data, at + 24))
        at += 24 + 8 * length
    return cameras


def _images_binary(path: Path) -> tuple[ColmapImage, ...]:
    data = read_regular(path, _MOST)
    (count,), at, images = struct.unpack_from("<Q", data), 8, []
    for _ in range(count):
        values = struct.unpack_from("<i7di", data, at)
        end = data.index(b"\0", at + 64)
        name = data[at + 64 : end].decode("utf-8", "surrogateescape")
        (points,) = struct.unpack_from("<Q", data, end + 1)
        at = end + 9 + 24 * points
        if at > len(data):
            raise ValueError(f"{path.name} ends too early")
        images.append(ColmapImage(name, values[8], _pose(list(values[1:5]), list(values[5:8]))))
    return tuple(images)
