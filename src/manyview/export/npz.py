"""NPZ: every array of the result under a documented name (see `npz_arrays`), for scripts with numpy alone."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from .export_format import ExportFormat, ExportTarget

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction


@dataclasses.dataclass(frozen=True)
class NpzOptions:
    """`scene.npz`, with V views of H x W network pixels."""

    compress: bool = False
    """Compress: about half the size, many times slower."""
    world_points: bool = True
    """Include the world point of every pixel (it follows from depth and cameras)."""


def _write(scene: Reconstruction, options: NpzOptions, target: ExportTarget) -> None:
    arrays = npz_arrays(scene, options.world_points)
    needed = sum(array.nbytes + 1000 for array in arrays.values())
    with target.staged(needed) as stage:
        save = np.savez_compressed if options.compress else np.savez
        save(stage.file("scene.npz"), allow_pickle=False, **arrays)


def npz_arrays(scene: Reconstruction, world_points: bool = True) -> dict[str, np.ndarray]:
    """The arrays of the file by name.

    - `images` uint8 [V,H,W,3], RGB as the network saw it
    - `cam_from_world` and its inverse `world_from_cam`, float64 [V,3,4], OpenCV axes
    - `intrinsics` float64 [V,3,3], pixels of `images`, centre of the first pixel at (0.5, 0.5)
    - `upright_intrinsics` float64 [V,3,3], pixels of the upright source images
    - `distortion` float64 [V,4], (k1, k2, p1, p2) of OpenCV's model, if cameras were refined with a lens:
      `images` and maps are distorted
    - `upright_sizes` int64 [V,2], width and height of the upright source images
    - `network_from_upright` float64 [V,3,3], homogeneous map from upright source pixels to network pixels
    - `z_depth`, `depth_conf` float32 [V,H,W]; `valid` bool [V,H,W]
    - `world_points` float32 [V,H,W,3], unless left out
    - `head_points`, `head_points_conf`, if the point head ran
    - `sky`, `masked`, `confirmed` bool [V,H,W], if it is known
    - `names` [V] text; `image_names` [V] text, what the images are called in other exports
    - `header` JSON text with settings, settings_hash, notes, pixel_centres
    """
    header = {
        "settings": scene.settings,
        "settings_hash": scene.settings_hash,
        "notes": list(scene.notes),
        "pixel_centres": scene.pixel_centres,
    }
    transforms = [view.transform for view in scene.views]
    arrays: dict[str, Any] = {
        "images": scene.images,
        "cam_from_world": scene.cam_from_world,
        "world_from_cam": scene.world_from_cam,
        "intrinsics": scene.intrinsics,
        "upright_intrinsics": scene.upright_intrinsics,
        "upright_sizes": np.array([[item.upright_width, item.upright_height] for item in transforms]),
        "network_from_upright": np.stack([item.network_from_upright for item in transforms]),
        "z_depth": scene.z_depth,
        "depth_conf": scene.depth_conf,
        "valid": scene.valid,
        "names": np.array(scene.names),
        "image_names": np.array(scene.source_image_names),
        "header": np.array(json.dumps(header)),
    }
    if world_points:
        arrays["world_points"] = scene.world_points
    if scene.head_points is not None and scene.head_points_conf is not None:
        arrays |= {"head_points": scene.head_points, "head_points_conf": scene.head_points_conf}
    for name in ("distortion", "sky", "masked", "confirmed"):
        if getattr(scene, name) is not None:
            arrays[name] = getattr(scene, name)
    return arrays


FORMAT = ExportFormat("npz", "every array, for numpy", NpzOptions, _write)
