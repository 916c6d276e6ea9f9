"""A result as a `pycolmap.Reconstruction`."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from ..reconstruction.result.tracks import Tracks

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction


def build_model(scene: Reconstruction, tracks: Tracks, names: tuple[str, ...]) -> Any:
    """The `pycolmap.Reconstruction`: image ids are view numbers from 1, errors in original pixels."""
    import pycolmap

    model = pycolmap.Reconstruction()
    cameras, camera_of_view = colmap_cameras(scene)
    for number, (model_name, params, (width, height)) in enumerate(cameras):
        model.add_camera_with_trivial_rig(
            pycolmap.Camera(model=model_name, width=width, height=height, params=params, camera_id=number + 1)
        )
    order = np.argsort(tracks.view_index, kind="stable")
    bounds = np.searchsorted(tracks.view_index[order], np.arange(len(scene) + 1))
    slot = np.empty(len(order), dtype=np.int64)
    for index, view in enumerate(scene.views):
        observed = order[bounds[index] : bounds[index + 1]]
        slot[observed] = np.arange(len(observed))
        transform = view.transform
        scale = np.array([transform.scale_x, transform.scale_y])
        offset = np.array([transform.offset_x, transform.offset_y])
        image = pycolmap.Image(
            name=names[index],
            keypoints=(tracks.pixels[observed] - offset) / scale,
            camera_id=camera_of_view[index] + 1,
            image_id=index + 1,
        )
        rotation = pycolmap.Rotation3d(scene.cam_from_world[index, :, :3])
        model.add_image_with_trivial_frame(
            image, pycolmap.Rigid3d(rotation, scene.cam_from_world[index, :, 3])
        )
    ends = np.searchsorted(tracks.point_index, np.arange(len(tracks.points) + 1)).tolist()
    views, slots = (tracks.view_index + 1).tolist(), slot.tolist()
    for point, (start, end) in enumerate(itertools.pairwise(ends)):
        elements = [pycolmap.TrackElement(views[i], slots[i]) for i in range(start, end)]
        model.add_point3D(tracks.points[point], pycolmap.Track(elements), tracks.colours[point])
    model.update_point_3d_errors()
    for point_id in [i for i, point in model.points3D.items() if point.track.length() < 2]:
        model.points3D[point_id].error = -1.0  # unknown
    return model


_Camera = tuple[str, list[float], tuple[int, int]]


def colmap_cameras(scene: Reconstruction) -> tuple[list[_Camera], list[int]]:
    """COLMAP's cameras, as (model, parameters, (width, height)) in upright pixels, and which each view has.

    A camera each; views that share one since they were refined have the same.
    """
    refinement = scene.refinement if scene.refinement is not None and scene.tracks is not None else {}
    settings = scene.settings.get("refine") if refinement else None
    wanted = settings.get("camera_model") if isinstance(settings, dict) else None
    facts = refinement.get("views")
    if not isinstance(facts, list) or len(facts) != len(scene):
        facts = [{}] * len(scene)
    numbers = [fact.get("camera") for fact in facts]
    cameras: list[_Camera] = []
    shared: dict[int, int] = {}
    camera_of_view = []
    for index, matrix in enumerate(scene.upright_intrinsics):
        transform = scene.views[index].transform
        lens = np.zeros(4) if scene.distortion is None else scene.distortion[index]
        size = transform.upright_width, transform.upright_height
        camera = (*camera_parameters(matrix, lens, wanted), size)
        number = numbers[index]
        known = shared.get(number) if isinstance(number, int) else None
        if known is None or not _same(cameras[known], camera):
            known = len(cameras)
            cameras.append(camera)
            if isinstance(number, int):
                shared.setdefault(number, known)
        camera_of_view.append(known)
    return cameras, camera_of_view


def camera_parameters(
    intrinsics: Float[np.ndarray, "3 3"], distortion: Float[np.ndarray, "4"], wanted: str | None = None
) -> tuple[str, list[float]]:
    """COLMAP's name of a camera model, `wanted` if that can hold the camera, and its parameters."""
    (fx, fy), (cx, cy) = intrinsics[[0, 1], [0, 1]].tolist(), intrinsics[:2, 2].tolist()
    k1, k2, p1, p2 = distortion.tolist()
    models = {
        "SIMPLE_PINHOLE": [fx, cx, cy],
        "PINHOLE": [fx, fy, cx, cy],
        "SIMPLE_RADIAL": [fx, cx, cy, k1],
        "RADIAL": [fx, cx, cy, k1, k2],
        "OPENCV": [fx, fy, cx, cy, k1, k2, p1, p2],
    }
    one_focal = abs(fx / fy - 1) < 1e-6
    fits = {
        "SIMPLE_PINHOLE": one_focal and not distortion.any(),
        "PINHOLE": not distortion.any(),
        "SIMPLE_RADIAL": one_focal and not distortion[1:].any(),
        "RADIAL": one_focal and not distortion[2:].any(),
        "OPENCV": True,
    }
    chosen = wanted if wanted is not None and fits.get(wanted) else "PINHOLE" if fits["PINHOLE"] else "OPENCV"
    return chosen, models[chosen]


def _same(first: _Camera, second: _Camera) -> bool:
    (name, params, size), (other_name, other_params, other_size) = first, second
    return (
        name == other_name and size == other_size and np.allclose(params, other_params, rtol=1e-6, atol=1e-9)
    )
