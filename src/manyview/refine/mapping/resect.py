"""Views that mapping left out, resected against points and against the network's depth of mapped views.

In the worker only: needs pycolmap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float64

from .features import MAPPED, view_numbers, view_of

DEPTH = "depth.npz"
_MOST_ERROR_PX = 8.0
_LEAST_INLIERS = 15
_LEAST_SHARE = 0.3
_LEAST_SCALED = 8  # points of a view that tell the scale of its depth


def resect_by_depth(work: Path, request: dict[str, Any], model: Any) -> Any:
    """The model with views added whose matches hit points or aligned depth, as long as there are any."""
    import pycolmap

    missing = set(model.images) - set(model.reg_image_ids())
    if not missing or not (work / DEPTH).is_file():
        return model
    with np.load(work / DEPTH) as stored:
        depth = {name: stored[name] for name in stored}
    with pycolmap.Database.open(work / MAPPED) as database:
        keypoints = {image: database.read_keypoints(image)[:, :2] for image in view_numbers(database)}
        numbers, geometries = database.read_two_view_geometries()
    matches: dict[int, list[tuple[int, np.ndarray]]] = {image: [] for image in model.images}
    for number, geometry in zip(numbers, geometries, strict=True):
        first, second = pycolmap.pair_id_to_image_pair(number)
        found = np.asarray(geometry.inlier_matches, dtype=np.int64)
        matches[first].append((second, found))
        matches[second].append((first, found[:, ::-1]))
    added = True
    while added:
        added = False
        scales = {image: _depth_scale(model, image, depth) for image in model.reg_image_ids()}
        for image in sorted(missing):
            if _resect(model, image, matches[image], keypoints, depth, scales, request["seed"]):
                missing.discard(image)
                added = True
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 1
    options.random_seed = options.triangulation.random_seed = request["seed"]
    return pycolmap.triangulate_points(
        model, work / MAPPED, work / "images", work / "models", clear_points=False, options=options
    )


def depth_at(
    depth: dict[str, np.ndarray], view: int, pixels: Float[np.ndarray, "n 2"]
) -> Float64[np.ndarray, " n"]:
    """The network's depth of a view at places of its upright original, NaN where there is none."""
    z = depth["z_depth"][view]
    found = pixels * depth["scale"][view] + depth["offset"][view]
    column, row = np.floor(found).astype(int).T
    inside = (column >= 0) & (row >= 0) & (column < z.shape[1]) & (row < z.shape[0])
    values = z[np.where(inside, row, 0), np.where(inside, column, 0)].astype(np.float64)
    return np.where(inside, values, np.nan)


def _depth_scale(model: Any, number: int, depth: dict[str, np.ndarray]) -> float:
    """Depth of the model's points over the network's, the median of a view; NaN where few points tell."""
    image = model.images[number]
    seen = [point for point in image.points2D if point.has_point3D()]
    if len(seen) < _LEAST_SCALED:
        return float("nan")
    points = np.array([model.points3D[point.point3D_id].xyz for point in seen])
    z = points @ image.cam_from_world().matrix()[2, :3] + image.cam_from_world().matrix()[2, 3]
    predicted = depth_at(depth, view_of(image.name), np.array([point.xy for point in seen]))
    usable = (z > 0) & np.isfinite(predicted)
    return float(np.median(z[usable] / predicted[usable])) if usable.sum() >= _LEAST_SCALED else float("nan")


def _resect(
    model: Any,
    number: int,
    matches: list[tuple[int, np.ndarray]],
    keypoints: dict[int, np.ndarray],
    depth: dict[str, np.ndarray],
    scales: dict[int, float],
    seed: int,
) -> bool:
    """Register one view where its matches agree on a pose; whether they do."""
    import pycolmap

    places, points = [], []
    for other, found in matches:
        if other not in scales or not len(found):
            continue
        image, pixels = model.images[other], keypoints[other][found[:, 1]].astype(np.float64)
        camera = model.cameras[image.camera_id]
        z = depth_at(depth, view_of(image.name), pixels) * scales[other]
        world_from_cam = image.cam_from_world().inverse().matrix()
        rays = np.column_stack([camera.cam_from_img(pixels), np.ones(len(pixels))])
        lifted = (rays * z[:, None]) @ world_from_cam[:, :3].T + world_from_cam[:, 3]
        for row, feature in enumerate(found[:, 1]):
            if image.points2D[feature].has_point3D():
                lifted[row] = model.points3D[image.points2D[feature].point3D_id].xyz
        usable = np.isfinite(lifted).all(1)
        places.append(keypoints[number][found[usable, 0]].astype(np.float64))
        points.append(lifted[usable])
    if sum(map(len, points)) < _LEAST_INLIERS:
        return False
    options = pycolmap.AbsolutePoseEstimationOptions()
    options.ransac.max_error = _MOST_ERROR_PX
    options.ransac.random_seed = seed
    image = model.images[number]
    camera = model.cameras[image.camera_id]
    pose = pycolmap.estimate_and_refine_absolute_pose(
        np.concatenate(places), np.concatenate(points), camera, options
    )
    if pose is None or pose["num_inliers"] < max(_LEAST_INLIERS, _LEAST_SHARE * sum(map(len, points))):
        return False
    model.frame(image.frame_id).set_cam_from_world(image.camera_id, pose["cam_from_world"])
    model.register_frame(image.frame_id)
    scales[number] = float("nan")
    return True
