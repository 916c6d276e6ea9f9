"""Depth, cameras and points in numpy, for results and exports that never touch torch.

Conventions are those of `unproject.py`: OpenCV axes, `cam_from_world` 3x4, intrinsics 3x3 in pixels with
the centre of the first pixel at (0.5, 0.5). Everything is computed in float64.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Float64

PIXEL_CENTRES = ("half", "integer")
_ROTATION_TOLERANCE = 0.02


def invert_rigid(target_from_source: Float[np.ndarray, "*batch 3 4"]) -> Float[np.ndarray, "*batch 3 4"]:
    """`source_from_target` of a rigid transform, in closed form."""
    rotation_t = np.swapaxes(target_from_source[..., :3], -1, -2)
    return np.concatenate([rotation_t, -rotation_t @ target_from_source[..., 3:]], axis=-1)


_LARGEST = 1e12
"""Of a number in a transform: world coordinates of surveys stay far below."""


def nearest_rigid(
    transforms: Float64[np.ndarray, "*batch 3 4"],
) -> tuple[Float64[np.ndarray, "*batch 3 4"], Bool[np.ndarray, "*batch"]]:
    """Measured transforms with their 3x3 part made exactly a rotation.

    Args:
        transforms: [R | t] with R a rotation up to rounding.

    Returns:
        The transforms with the rotation nearest to each R, and whether R was a rotation: false where R Rᵀ
        differs from the identity by 0.02 or more (poses of measured data sets: up to 4e-4), R mirrors, or a
        number is not finite or 1e12 and more. The transform is then meaningless.
    """
    sane = (np.abs(transforms) < _LARGEST).all(axis=(-2, -1))  # NaN is not
    rotation = np.where(sane[..., None, None], transforms[..., :3], 0.0)
    error = np.abs(rotation @ np.swapaxes(rotation, -1, -2) - np.eye(3)).max(axis=(-2, -1), initial=0)
    rigid = (error < _ROTATION_TOLERANCE) & (np.linalg.det(rotation) > 0)
    u, _, vh = np.linalg.svd(rotation)
    nearest = np.concatenate([u @ vh, transforms[..., 3:]], axis=-1)
    return nearest, np.asarray(rigid & sane)


def camera_centres(cam_from_world: Float[np.ndarray, "*batch 3 4"]) -> Float[np.ndarray, "*batch 3"]:
    """Projection centres in world coordinates."""
    return invert_rigid(cam_from_world)[..., 3]


def pixel_grid(height: int, width: int) -> Float[np.ndarray, "height width 2"]:
    """(x, y) of every pixel centre, the first at (0.5, 0.5)."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([x, y], axis=-1)


def unproject(
    pixels: Float[np.ndarray, "*#batch n 2"],
    z_depth: Float[np.ndarray, "*#batch n"],
    cam_from_world: Float[np.ndarray, "*#batch 3 4"],
    intrinsics: Float[np.ndarray, "*#batch 3 3"],
    pixel_centres: str = "half",
    distortion: Float[np.ndarray, "*#batch 4"] | None = None,
) -> Float[np.ndarray, "... n 3"]:
    """World points at pixels of known depth.

    Args:
        pixels: (x, y), the centre of the first pixel at (0.5, 0.5).
        z_depth: Depth along the optical axis, in the unit of length of the cameras.
        cam_from_world: [R | t] with OpenCV axes.
        intrinsics: In pixels of the depth map.
        pixel_centres: "half"; or "integer" for the ray half a pixel up and left of the pixel's centre, as
            upstream VGGT casts it.
        distortion: (k1, k2, p1, p2), see `distort`; None for a pinhole.

    Raises:
        ValueError: Another `pixel_centres`.
    """
    if pixel_centres not in PIXEL_CENTRES:
        raise ValueError(f"pixel_centres must be 'half' or 'integer', not {pixel_centres!r}")
    shift = 0.0 if pixel_centres == "half" else -0.5
    intrinsics = np.asarray(intrinsics, dtype=np.float64)
    focal = np.stack([intrinsics[..., 0, 0], intrinsics[..., 1, 1]], axis=-1)
    rays = (pixels + shift - intrinsics[..., None, :2, 2]) / focal[..., None, :]
    if distortion is not None:
        rays = undistort(rays, distortion)
    z = np.asarray(z_depth, dtype=np.float64)[..., None]
    in_camera = np.concatenate([rays * z, z], axis=-1)
    world_from_cam = invert_rigid(np.asarray(cam_from_world, dtype=np.float64))
    rotated = in_camera @ np.swapaxes(world_from_cam[..., :3], -1, -2)
    points: np.ndarray = rotated + world_from_cam[..., None, :, 3]
    return points


def project(
    points: Float[np.ndarray, "*#batch n 3"],
    cam_from_world: Float[np.ndarray, "*#batch 3 4"],
    intrinsics: Float[np.ndarray, "*#batch 3 3"],
    distortion: Float[np.ndarray, "*#batch 4"] | None = None,
) -> tuple[Float[np.ndarray, "... n 2"], Float[np.ndarray, "... n"]]:
    """(pixels x, y with centres at +0.5, z-depth) of world points.

    Points at or behind the camera plane (z <= 0) have no image: their pixels are NaN. `distortion` is
    (k1, k2, p1, p2), see `distort`; None for a pinhole.
    """
    rotation_t = np.swapaxes(cam_from_world[..., :3], -1, -2)
    in_camera = np.asarray(points, dtype=np.float64) @ rotation_t + cam_from_world[..., None, :, 3]
    z = in_camera[..., 2]
    safe_z = np.where(z > 0, z, np.nan)
    rays = in_camera[..., :2] / safe_z[..., None]
    if distortion is not None:
        rays = distort(rays, distortion)
    x = rays[..., 0] * intrinsics[..., None, 0, 0] + intrinsics[..., None, 0, 2]
    y = rays[..., 1] * intrinsics[..., None, 1, 1] + intrinsics[..., None, 1, 2]
    return np.stack([x, y], axis=-1), z


def distort(
    rays: Float[np.ndarray, "*#batch n 2"], distortion: Float[np.ndarray, "*#batch 4"]
) -> Float[np.ndarray, "... n 2"]:
    """Places (x / z, y / z) on the image plane at focal length 1, moved by a lens.

    Args:
        rays: Without distortion.
        distortion: (k1, k2, p1, p2), two radial and two tangential coefficients of OpenCV's model, which is
            COLMAP's OPENCV and holds SIMPLE_RADIAL (k1) and RADIAL (k1, k2).
    """
    moved, _ = _distortion(rays, distortion)
    return moved


def undistort(
    rays: Float[np.ndarray, "*#batch n 2"], distortion: Float[np.ndarray, "*#batch 4"], steps: int = 20
) -> Float[np.ndarray, "... n 2"]:
    """The inverse of `distort`, by Newton's method; meaningless where a lens folds the plane over."""
    found = np.broadcast_to(rays, np.broadcast_shapes(rays.shape, (*distortion.shape[:-1], 1, 2))).copy()
    for _ in range(steps):
        moved, jacobian = _distortion(found, distortion)
        (a, b), (c, d) = jacobian
        x, y = np.moveaxis(rays - moved, -1, 0)
        determinant = a * d - b * c
        step = np.stack([(d * x - b * y) / determinant, (a * y - c * x) / determinant], axis=-1)
        found += step
        if np.abs(step).max(initial=0) < 1e-13:
            break
    return found


def _distortion(
    rays: Float[np.ndarray, "*#batch n 2"], distortion: Float[np.ndarray, "*#batch 4"]
) -> tuple[np.ndarray, tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]]:
    """Distorted places, and ((dx'/dx, dx'/dy), (dy'/dx, dy'/dy))."""
    x, y = rays[..., 0], rays[..., 1]
    k1, k2, p1, p2 = (distortion[..., None, i] for i in range(4))
    squared = x * x + y * y
    radial = 1 + squared * (k1 + squared * k2)
    slope = 2 * (k1 + 2 * squared * k2)  # d radial / d x = slope * x
    moved_x = x * radial + 2 * p1 * x * y + p2 * (squared + 2 * x * x)
    moved_y = y * radial + p1 * (squared + 2 * y * y) + 2 * p2 * x * y
    mixed = slope * x * y + 2 * p1 * x + 2 * p2 * y
    along_x = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
    along_y = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
    return np.stack([moved_x, moved_y], axis=-1), ((along_x, mixed), (mixed, along_y))
