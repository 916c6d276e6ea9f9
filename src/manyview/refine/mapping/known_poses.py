"""Known poses: as positions that pull on the adjustment, or as they are.

In the worker only: needs pycolmap.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from .features import MAPPED, view_numbers, view_of

_LEAST_SIGMA = 1e-3  # of the extent of the known positions
_MOST_RESIDUAL = 0.1


def fixed_model(work: Path, request: dict[str, Any], found: Any) -> Any:
    """A model of the views with known poses, their points triangulated; cameras are those of `found`."""
    import pycolmap

    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(work / MAPPED) as database:
        cache = pycolmap.DatabaseCache.create(database, pycolmap.DatabaseCacheOptions(load_all_images=True))
        model.load(cache)
        views = view_numbers(database)
    for number, camera in model.cameras.items():
        if found is not None and number in found.cameras:
            camera.params = found.cameras[number].params
    for number, view in views.items():
        pose = np.array(request["known_poses"][view], dtype=np.float64)
        if np.isfinite(pose).all():
            image = model.images[number]
            rigid = pycolmap.Rigid3d(pycolmap.Rotation3d(pose[:, :3]), pose[:, 3])
            model.frame(image.frame_id).set_cam_from_world(image.camera_id, rigid)
            model.register_frame(image.frame_id)
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads = 1
    options.random_seed = options.triangulation.random_seed = request["seed"]
    return pycolmap.triangulate_points(
        model, work / MAPPED, work / "images", work / "models", clear_points=True, options=options
    )


def known_images(model: Any, request: dict[str, Any]) -> dict[int, Float64[np.ndarray, "3 4"]]:
    """Known poses by the number of the image, of those that have a camera in the model."""
    poses = {
        number: np.array(request["known_poses"][view_of(model.images[number].name)], dtype=np.float64)
        for number in model.reg_image_ids()
    }
    return {number: pose for number, pose in poses.items() if np.isfinite(pose).all()}


def pull_to_known(model: Any, request: dict[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Move a model into the world of known poses and adjust it with their positions as priors.

    Returns (whether it is in that world, notes).
    """
    import pycolmap

    poses = known_images(model, request)
    if len(poses) < 2:
        return False, ("fewer than 2 of the views with known poses were refined, so these were not used",)
    known = np.stack(list(poses.values()))
    found = np.stack([model.images[number].cam_from_world().matrix() for number in poses])
    scale, rotation, translation = known_from_found(found, known)
    centres, targets = _centres(found), _centres(known)
    residual = np.linalg.norm(scale * centres @ rotation.T + translation - targets, axis=1)
    extent = float(np.linalg.norm(targets - targets.mean(0), axis=1).max())
    if not (np.isfinite(scale) and scale > 0) or np.median(residual) > _MOST_RESIDUAL * extent:
        return False, ("the known poses do not agree with the images, so they were not used",)
    model.transform(pycolmap.Sim3d(scale, pycolmap.Rotation3d(rotation), translation))
    sigma = max(1.5 * float(np.median(residual)), _LEAST_SIGMA * extent)
    priors = []
    for number, target in zip(poses, targets, strict=True):
        prior = pycolmap.PosePrior(
            position=target,
            position_covariance=np.eye(3) * sigma**2,
            coordinate_system=pycolmap.PosePriorCoordinateSystem.CARTESIAN,
        )
        prior.corr_data_id = model.images[number].data_id
        priors.append(prior)
    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_focal_length = options.refine_extra_params = False
    options.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    options.ceres.solver_options.num_threads = request["mapping_threads"]
    config = pycolmap.BundleAdjustmentConfig()
    for number in model.reg_image_ids():
        config.add_image(number)
    pull = pycolmap.PosePriorBundleAdjustmentOptions()
    pull.ceres.prior_position_loss_function_type = pycolmap.LossFunctionType.CAUCHY
    if len(poses) > 2:
        pycolmap.create_pose_prior_bundle_adjuster(options, pull, config, priors, model).solve()
    return True, ()


def known_from_found(
    found: Float64[np.ndarray, "n 3 4"], known: Float64[np.ndarray, "n 3 4"]
) -> tuple[float, Float64[np.ndarray, "3 3"], Float64[np.ndarray, "3"]]:
    """(scale, rotation, translation) that move cameras into the world of known ones.

    The rotation is the mean of all cameras', so that two, or many in a row, suffice.
    """
    u, _, vh = np.linalg.svd((np.swapaxes(known[:, :, :3], 1, 2) @ found[:, :, :3]).sum(0))
    rotation = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vh)]) @ vh
    source, target = _centres(found) @ rotation.T, _centres(known)
    moved, wanted = source - source.mean(0), target - target.mean(0)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = float((moved * wanted).sum() / (moved**2).sum())
    return scale, rotation, target.mean(0) - scale * source.mean(0)


def _centres(cam_from_world: Float64[np.ndarray, "n 3 4"]) -> Float64[np.ndarray, "n 3"]:
    return -np.einsum("nji,nj->ni", cam_from_world[:, :, :3], cam_from_world[:, :, 3])
