"""Before and after a pass: image files to network images, and a result to files."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ..export import export
from ..reconstruction.inputs.find import find_inputs
from ..reconstruction.inputs.load import LoadedViews, read_views
from ..reconstruction.inputs.options import InputSet
from ..reconstruction.result.result import Reconstruction

EXPORTS = ("npz", "ply")
# Photos are so many times as large a side as the network's images, like those of a camera.
_LARGER = 2
_DISTINCT = 16
_QUALITY = 90


def write_photos(images: Tensor, folder: Path) -> None:
    """JPEG files of twice the network's size, a few of them distinct and the others copies."""
    encoded: list[bytes] = []
    for index in range(len(images)):
        path = folder / f"photo_{index:05d}.jpg"
        if index < _DISTINCT:
            image = Image.fromarray(images[index].permute(1, 2, 0).numpy())
            image.resize((_LARGER * image.width, _LARGER * image.height)).save(path, quality=_QUALITY)
            encoded.append(path.read_bytes())
        else:
            path.write_bytes(encoded[index % _DISTINCT])


def decode_seconds(images: Tensor, patch_size: int, repeats: int = 3) -> float:
    """Median seconds from as many files as there are images to uint8 images of their size in memory.

    The files were just written, so that the time is that of decoding and resizing, not of a disk.
    """
    with tempfile.TemporaryDirectory(prefix="manyview-bench-") as name:
        folder = Path(name)
        write_photos(images, folder)
        found, walls = find_inputs(folder), []
        _read(find_inputs(folder), images, patch_size)
        for _ in range(repeats):
            start = time.perf_counter()
            _read(found, images, patch_size)
            walls.append(time.perf_counter() - start)
    return statistics.median(walls)


def export_seconds(images: Tensor, patch_size: int, formats: Sequence[str] = EXPORTS) -> float:
    """Seconds to write a result with as many views as there are images, in each of the formats."""
    with tempfile.TemporaryDirectory(prefix="manyview-bench-") as name:
        photos, out = Path(name) / "photos", Path(name) / "out"
        photos.mkdir()
        write_photos(images, photos)
        views = _read(find_inputs(photos), images, patch_size)
        scene = _made_up(views)
        for form in formats:  # the first use of a format loads what it needs
            export(_made_up(views, count=1), out / f"{form}-first", form)
        start = time.perf_counter()
        for form in formats:
            export(scene, out / form, form)
        return time.perf_counter() - start


def _read(found: InputSet, images: Tensor, patch_size: int) -> LoadedViews:
    return read_views(found, "fit", max(images.shape[-2:]), patch_size)


def _made_up(views: LoadedViews, count: int | None = None) -> Reconstruction:
    """A smooth surface seen by a row of cameras: the time to write a result depends on its size."""
    count, (height, width) = count or len(views.records), views.images.shape[-2:]
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    depth = 2 + np.sin(rows / height * 3) * np.cos(columns / width * 3)
    cameras = np.tile(np.eye(3, 4), (count, 1, 1))
    cameras[:, 0, 3] = np.linspace(0, 1, count)
    intrinsics = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]], dtype=np.float64)
    return Reconstruction(
        images=np.ascontiguousarray(views.images[:count].permute(0, 2, 3, 1).numpy()),
        cam_from_world=cameras,
        intrinsics=np.tile(intrinsics, (count, 1, 1)),
        z_depth=np.tile(depth.astype(np.float32), (count, 1, 1)),
        depth_conf=np.tile((1 + rows / height).astype(np.float32), (count, 1, 1)),
        views=views.records[:count],
    )
