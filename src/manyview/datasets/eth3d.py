"""ETH3D high-resolution (Schöps et al., CVPR 2017): undistorted images, laser depth of the distorted ones.

`dslr_calibration_undistorted/` is a COLMAP text model of `images/dslr_images_undistorted/`, in metres.
`ground_truth_depth/dslr_images/NAME` holds raw float32 z-depth of the original image (infinite: none),
whose thin-prism fisheye camera is in `dslr_calibration_jpg/`: each undistorted pixel reads the depth at the
place to which that lens moves its ray.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid, pixel_grid
from .colmap_model import ColmapCamera, model_folder, read_views, views_with_images
from .dataset import Dataset
from .posed_set import DepthFiles, PosedSet, counted_note, posed_set

_LAYOUT = (
    "courtyard/images/dslr_images_undistorted/ with dslr_calibration_undistorted/, "
    "dslr_calibration_jpg/ and ground_truth_depth/"
)


@dataclasses.dataclass(frozen=True)
class LensDepth(DepthFiles):
    """Depth of distorted images, in pixels of undistorted ones; `cameras`: (undistorted, distorted)."""

    cameras: tuple[tuple[ColmapCamera, ColmapCamera], ...] = ()
    most_width: int = 1024
    """Depth is read on a grid of the image's shape at most this wide; images have 24 megapixels."""
    _per_view = ("paths", "cameras")

    def read(self, index: int) -> Float64[np.ndarray, "height width"] | None:
        path = self.paths[index]
        if path is None:
            return None
        flat, lens = self.cameras[index]
        try:
            values = np.fromfile(path, "<f4")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error}); copy it again") from error
        if values.size != lens.width * lens.height:
            raise InputError(
                f"{path}: holds {values.size} numbers, expected {lens.width}x{lens.height}; copy it again"
            )
        shrink = max(1.0, flat.width / self.most_width)
        width, height = round(flat.width / shrink), round(flat.height / shrink)
        pixels = pixel_grid(height, width) * [flat.width / width, flat.height / height]
        k = flat.intrinsics
        rays = (pixels - k[:2, 2]) / [k[0, 0], k[1, 1]]
        place = np.floor(distorted_pixels(rays, lens))
        inside = (place >= 0).all(-1) & (place[..., 0] < lens.width) & (place[..., 1] < lens.height)
        x, y = (np.where(inside, place[..., axis], 0).astype(int) for axis in (0, 1))
        depth = values.reshape(lens.height, lens.width)[y, x].astype(np.float64)
        return np.where(inside & np.isfinite(depth) & (depth > 0), depth, np.nan) / self.per_unit


def distorted_pixels(
    rays: Float64[np.ndarray, "*grid 2"], lens: ColmapCamera
) -> Float64[np.ndarray, "*grid 2"]:
    """Where a pinhole or thin-prism fisheye lens (COLMAP's model) sees the rays (x/z, y/z)."""
    k = lens.intrinsics
    if lens.model == "THIN_PRISM_FISHEYE":
        k1, k2, p1, p2, k3, k4, sx1, sy1 = lens.distortion
        radius = np.linalg.norm(rays, axis=-1, keepdims=True)
        safe = np.maximum(radius, 1e-12)
        bent = np.where(radius > 1e-12, np.arctan(radius) / safe, 1.0) * rays
        u, v = bent[..., 0], bent[..., 1]
        r2 = u * u + v * v
        radial = k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
        du = u * radial + 2 * p1 * u * v + p2 * (r2 + 2 * u * u) + sx1 * r2
        dv = v * radial + 2 * p2 * u * v + p1 * (r2 + 2 * v * v) + sy1 * r2
        rays = np.stack([u + du, v + dv], -1)
    elif any(lens.distortion):
        raise InputError(f"a lens of the model {lens.model} is not known; expected THIN_PRISM_FISHEYE")
    return rays * [k[0, 0], k[1, 1]] + k[:2, 2]


def fits(folder: Path) -> bool:
    return model_folder(folder, ("dslr_calibration_undistorted",)) is not None


def read(folder: Path) -> PosedSet:
    place = folder / "dslr_calibration_undistorted"
    views = read_views(place)
    there = views_with_images(views, folder / "images", place)
    if not there:
        raise InputError(f"{folder}: no image of {place / 'images.txt'} is there; expected {_LAYOUT}")
    return posed_set(
        folder,
        (path for path, _, _ in there),
        invert_rigid(np.stack([image.cam_from_world for _, image, _ in there])),
        place,
        np.stack([camera.intrinsics for _, _, camera in there]),
        _depth(folder, [(path.name, camera) for path, _, camera in there]),
        counted_note(len(views) - len(there), "images of the calibration are not there"),
    )


def _depth(folder: Path, views: Sequence[tuple[str, ColmapCamera]]) -> DepthFiles | None:
    place = model_folder(folder, ("dslr_calibration_jpg",))
    if place is None:
        return None
    files = folder / "ground_truth_depth" / "dslr_images"
    lens = {Path(image.name).name: camera for image, camera in read_views(place)}
    paths = (files / name if name in lens else None for name, _ in views)
    return LensDepth.existing(paths, cameras=tuple((flat, lens.get(name, flat)) for name, flat in views))


DATASET = Dataset(
    fits,
    read,
    _LAYOUT,
    places=(("", "*"), ("training", "*")),
    source="eth3d.net, high-res multi-view, undistorted images and depth",
    splits={
        "training": "courtyard delivery_area electro facade kicker meadow office pipes playground relief "
        "relief_2 terrace terrains",
        "da3": "courtyard delivery_area electro facade kicker office pipes playground relief relief_2 "
        "terrains",
    },
    # Rotated views.
    left_out={
        "da3": "delivery_area/*71[1-4].JPG electro/*9289.JPG electro/*929[0-38].JPG playground/*58[7-9].JPG "
        "playground/*59[0-2].JPG relief/*42[7-9].JPG relief/*43[0-8].JPG relief_2/*45[89].JPG "
        "relief_2/*46[0-8].JPG"
    },
)
