"""Waymo Open (Sun et al., CVPR 2020) as DUSt3R's and MonST3R's preparation writes it from the official files.

`SEGMENT/00000_1.jpg` is frame 0 of camera 1 (front; then front left, front right, side left, side right),
with `.exr` (z-depth in metres of the laser's points, float32, 0 for none) and `.npz`: `intrinsics` (taken for
pixel centres at whole numbers), `cam2world` with OpenCV axes, in metres, and `distortion`. Images are not
rectified; their distortion is left out of the intrinsics. A scene is one camera of a segment, `SEGMENT/1`.
The official files (.tfrecord) need TensorFlow and are not read.
"""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from .dataset import Dataset
from .depth_files import DepthFiles
from .image_files import images_in
from .posed_set import PosedSet, posed_set
from .text_files import half_pixel_centres

_LAYOUT = "SEGMENT.tfrecord/00000_1.jpg with 00000_1.npz and 00000_1.exr (DUSt3R's preparation)"


def fits(place: Path) -> bool:
    """Whether `place` is a segment, or the first image of one of its cameras."""
    if place.suffix == ".jpg":
        return place.with_suffix(".npz").is_file() and place.stem == f"00000_{_camera(place)}"
    return (place / "00000_1.npz").is_file() and (place / "00000_1.jpg").is_file()


def _camera(place: Path) -> str:
    """The number of the camera; the front one's for a segment."""
    return place.stem.rpartition("_")[2] if place.suffix == ".jpg" else "1"


def read(place: Path) -> PosedSet:
    """The frames of one camera, the front one for a segment."""
    folder, camera = (place.parent if place.suffix == ".jpg" else place), _camera(place)
    images = [image for image in images_in(folder) if image.stem.endswith(f"_{camera}")]
    if not images:
        raise InputError(f"{folder}: holds no image of camera {camera}; expected {_LAYOUT}")
    intrinsics, poses, bent = zip(*(_arrays(image.with_suffix(".npz")) for image in images))
    return posed_set(
        folder,
        images,
        np.stack(poses),
        f"{folder}/*_{camera}.npz",
        half_pixel_centres(np.stack(intrinsics)),
        DepthFiles.existing(image.with_suffix(".exr") for image in images),
        ("images are distorted; intrinsics are given without distortion",) if any(bent) else (),
        name=f"{folder.resolve().name}/{camera}",
    )


def _arrays(path: Path) -> tuple[Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3 4"], bool]:
    """(intrinsics, world_from_cam, whether there is distortion)."""
    if not path.is_file():
        raise InputError(f"{path}: is missing beside its image; expected {_LAYOUT}")
    try:
        with np.load(path, allow_pickle=False) as arrays:
            k, pose = (arrays[name].astype(np.float64) for name in ("intrinsics", "cam2world"))
            bent = "distortion" in arrays and bool(np.any(arrays["distortion"]))
    except (
        OSError,
        ValueError,
        KeyError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
    ) as error:
        raise InputError(
            f"{path}: does not hold intrinsics and cam2world ({error}); copy it again"
        ) from error
    if k.shape != (3, 3) or pose.shape != (4, 4):
        raise InputError(f"{path}: expected 3x3 intrinsics and a 4x4 cam2world; copy it again")
    return k, pose[:3], bent


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "*/00000_*.jpg"),),
    source="Waymo Open Dataset, Perception, prepared by DUSt3R's script",
    scene_name=lambda path: f"{path.split('/')[0].removesuffix('.tfrecord')}/{_camera(Path(path))}",
)
