"""Bundle adjustment with a robust loss, and with priors on the intrinsics.

In the worker only: needs pycolmap, which has no prior on intrinsics. So the adjustment runs with free
intrinsics first; their estimate and its covariance (of all other parameters marginalised) are fused with the
prior as two Gaussian measurements, and the adjustment runs again with the intrinsics held there. For a linear
problem that is the adjustment with the prior in it; what images determine well is not changed by it, and
what they leave open (the focal length of forward motion, that of a flight over a plane) stays near the prior.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from jaxtyping import Float64

CENTRE_SIGMA = 0.01
"""Of the principal point, of the longer side."""
LENS_SIGMA = 0.2
"""Of each coefficient of distortion."""
INFLATION = 2.5
"""Of the standard deviations that bundle adjustment computes, which know of noise in the features alone."""
_CENTRE_VIEWS = 8  # of a camera, from which its principal point is refined
_CAUCHY = 2.385  # times the noise: 95 % as efficient as least squares without outliers (Holland, Welsch 1977)
_MOST_ERROR_PX = 4.0
_LEAST_ANGLE_DEG = 1.0
_LEAST_NOISE_PX = 0.05


def adjust(model: Any, request: dict[str, Any], fixed: frozenset[int] = frozenset()) -> None:
    """Refine cameras and points of a model in place; images of `fixed` do not move."""
    starts = dict(enumerate(request["cameras"], 1))
    free = [number for number in model.cameras if starts[number]["focal_sigma"] is not None]
    views = Counter(model.images[number].camera_id for number in model.reg_image_ids())
    free = [number for number in free if views[number]]
    for number, start in starts.items():
        if number in model.cameras and start["focal_sigma"] is None:
            model.cameras[number].params = start["params"]
    filter_points(model, request)
    if free:
        # A few views do not tell where the principal point is.
        centres = min(views[number] for number in free) >= _CENTRE_VIEWS
        covariances = _solve(model, request, fixed, free, centres)
        for number in free:
            camera, start = model.cameras[number], starts[number]
            index, sigma = _prior(camera, start["focal_sigma"] * start["params"][0], centres)
            params, prior = np.array(camera.params), np.array(start["params"], dtype=np.float64)
            params[index] = fuse(params[index], covariances.get(number), prior[index], sigma)
            camera.params = params
    for _ in range(2):
        _solve(model, request, fixed, [])
        filter_points(model, request)
    model.update_point_3d_errors()


def fuse(
    estimate: Float64[np.ndarray, " n"],
    covariance: Float64[np.ndarray, "n n"] | None,
    prior: Float64[np.ndarray, " n"],
    sigma: Float64[np.ndarray, " n"],
) -> Float64[np.ndarray, " n"]:
    """Mean of the product of two Gaussians, the prior's independent; the prior without a covariance."""
    if covariance is None or not (np.isfinite(covariance).all() and np.isfinite(estimate).all()):
        return prior
    measured = covariance * INFLATION**2
    gain = np.diag(sigma**2) @ np.linalg.pinv(measured + np.diag(sigma**2))
    return prior + gain @ (estimate - prior)


def filter_points(model: Any, request: dict[str, Any]) -> None:
    """Without observations that fit badly, and points that all views see from the same direction."""
    import pycolmap

    manager = pycolmap.ObservationManager(model)
    manager.filter_all_points3D(_MOST_ERROR_PX * _pixel_scale(model, request), _LEAST_ANGLE_DEG)
    manager.filter_observations_with_negative_depth()
    manager.filter_points3D_with_short_tracks(2)


def _solve(
    model: Any, request: dict[str, Any], fixed: frozenset[int], free: list[int], centres: bool = False
) -> dict[int, Float64[np.ndarray, "n n"] | None]:
    """Adjust; the covariance of the parameters of each camera of `free`, None where it cannot be computed."""
    import pycolmap

    options = pycolmap.BundleAdjustmentOptions()
    options.print_summary = False
    options.refine_principal_point = centres
    options.ceres.loss_function_type = pycolmap.LossFunctionType.CAUCHY
    options.ceres.loss_function_scale = _CAUCHY * _noise_px(model)
    options.ceres.solver_options.num_threads = request["mapping_threads"]
    # Intrinsics that are hardly determined need many steps; what is left after them is settled soon.
    options.ceres.solver_options.max_num_iterations = 100 if free else 25
    options.ceres.solver_options.function_tolerance = 1e-6
    config = pycolmap.BundleAdjustmentConfig()
    for number in model.reg_image_ids():
        config.add_image(number)
        if number in fixed:
            config.set_constant_rig_from_world_pose(model.images[number].frame_id)
    for number in model.cameras:
        if number not in free:
            config.set_constant_cam_intrinsics(number)
    if len(fixed) < 2:
        config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    adjuster = pycolmap.create_default_ceres_bundle_adjuster(options, config, model)
    adjuster.solve()
    if not free:
        return {}
    wanted = pycolmap.BACovarianceOptions()
    wanted.params = pycolmap.BACovarianceOptionsParams.ALL
    covariance = pycolmap.estimate_ba_covariance(wanted, model, adjuster)
    if covariance is None:
        return {}
    return {number: covariance.get_other_params_cov(model.cameras[number].params) for number in free}


def _prior(camera: Any, focal_sigma: float, centres: bool) -> tuple[list[int], Float64[np.ndarray, " n"]]:
    """(which parameters of a camera are refined, the standard deviations of their priors)."""
    sigma = dict.fromkeys(camera.focal_length_idxs(), focal_sigma)
    sigma |= dict.fromkeys(camera.extra_params_idxs(), LENS_SIGMA)
    if centres:
        centre_sigma = CENTRE_SIGMA * max(camera.width, camera.height)
        sigma |= dict.fromkeys(camera.principal_point_idxs(), centre_sigma)
    index = sorted(sigma)
    return index, np.array([sigma[i] for i in index])


def _noise_px(model: Any) -> float:
    """Robust standard deviation of reprojection errors along x and y."""
    errors = []
    for number in model.reg_image_ids():
        image = model.images[number]
        camera, pose = model.cameras[image.camera_id], image.cam_from_world().matrix()
        seen = [point for point in image.points2D if point.has_point3D()]
        if seen:
            points = np.array([model.points3D[point.point3D_id].xyz for point in seen])
            expected = camera.img_from_cam(points @ pose[:, :3].T + pose[:, 3])
            errors.append(np.abs(expected - np.array([point.xy for point in seen])).reshape(-1))
    found = np.concatenate([np.empty(0), *errors])
    found = found[np.isfinite(found)]
    return max(_LEAST_NOISE_PX, 1.4826 * float(np.median(found))) if len(found) else 1.0


def _pixel_scale(model: Any, request: dict[str, Any]) -> float:
    """Original pixels of one pixel at the size where features were found."""
    longest = max(max(camera.width, camera.height) for camera in model.cameras.values())
    return max(1.0, longest / request["max_image_size"])
