"""ETH3D high-resolution (Schöps et al., CVPR 2017): undistorted images, laser depth of the distorted ones.

`dslr_calibration_undistorted/` is a COLMAP text model of `images/dslr_images_undistorted/`, in metres.
`ground_truth_depth/dslr_images/NAME` holds raw float32 z-depth of the original image (infinite: none),
whose thin-prism fisheye camera is in `dslr_calibration_jpg/`: each undistorted pixel reads the depth at the
place to which that lens moves its ray. `combined_mesh.ply`, which Depth Anything 3's benchmark brings, is the
scene's cloud where it is there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from ..errors import InputError
from ..geometry.unproject_np import invert_rigid
from .colmap_model import ColmapCamera, model_folder, read_views, views_with_images
from .dataset import Dataset
from .depth_files import DepthFiles
from .lens_depth import LensDepth
from .posed_set import PosedSet, counted_note, posed_set

_LAYOUT = (
    "courtyard/images/dslr_images_undistorted/ with dslr_calibration_undistorted/, "
    "dslr_calibration_jpg/ and ground_truth_depth/"
)


@dataclasses.dataclass(frozen=True)
class RawLensDepth(LensDepth):
    """Files of float32 rows in the shape of the distorted image, without a header."""

    def _stored(self, index: int, path: Path) -> Float64[np.ndarray, "height width"]:
        _, lens = self.cameras[index]
        try:
            values = np.fromfile(path, "<f4")
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error}); copy it again") from error
        if values.size != lens.width * lens.height:
            raise InputError(
                f"{path}: holds {values.size} numbers, expected {lens.width}x{lens.height}; copy it again"
            )
        return values.reshape(lens.height, lens.width).astype(np.float64)


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
        cloud=folder / "combined_mesh.ply",
    )


def _depth(folder: Path, views: Sequence[tuple[str, ColmapCamera]]) -> DepthFiles | None:
    place = model_folder(folder, ("dslr_calibration_jpg",))
    if place is None:
        return None
    files = folder / "ground_truth_depth" / "dslr_images"
    lens = {Path(image.name).name: camera for image, camera in read_views(place)}
    paths = (files / name if name in lens else None for name, _ in views)
    return RawLensDepth.existing(paths, cameras=tuple((flat, lens.get(name, flat)) for name, flat in views))


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
