"""A wavy wall seen by known cameras: pairs of an estimate and the truth whose figures are known."""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy.spatial.transform import Rotation

from manyview.evaluate.protocols.scene_pair import ScenePair
from manyview.geometry.unproject_np import invert_rigid, pixel_grid, unproject

from ..published_cases import PublishedCase

INTRINSICS = np.array([[20.0, 0, 12], [0, 20, 9], [0, 0, 1]])


def truth(views: int = 4, height: int = 18, width: int = 24) -> ScenePair:
    """The truth as its own estimate."""
    generator = np.random.default_rng(0)
    rotation = Rotation.from_rotvec(generator.normal(size=(views, 3)) * 0.15).as_matrix()
    world_from_cam = np.concatenate([rotation, generator.normal(size=(views, 3, 1)) * 0.4], -1)
    cameras = invert_rigid(world_from_cam)
    x, y = np.meshgrid(np.linspace(0, 4, width), np.linspace(0, 3, height))
    depth = np.stack([2 + 0.4 * np.sin(2 * x + k) + 0.3 * np.cos(3 * y) for k in range(views)])
    points = unproject(
        pixel_grid(height, width).reshape(-1, 2), depth.reshape(views, -1), cameras, INTRINSICS
    )
    points = points.reshape(views, height, width, 3)
    return ScenePair(
        found_cameras=cameras,
        true_cameras=cameras,
        found_depth=depth.astype(np.float32),
        confidence=np.full(depth.shape, 5, dtype=np.float32),
        found_points=points.astype(np.float32),
        seen=np.ones(depth.shape, dtype=bool),
        true_depth=depth.astype(np.float32),
        true_points=points.astype(np.float32),
        head_points=points.astype(np.float32),
        found_intrinsics=np.repeat(INTRINSICS[None], views, 0),
        true_intrinsics=np.repeat(INTRINSICS[None], views, 0),
    )


def of_cameras(found: np.ndarray, true: np.ndarray) -> ScenePair:
    """Cameras alone, cam_from_world [views, 3 or 4, 4]."""
    nothing = np.zeros((len(found), 0, 0), dtype=np.float32)
    return ScenePair(
        found_cameras=found[:, :3],
        true_cameras=true[:, :3],
        found_depth=nothing,
        confidence=nothing,
        found_points=nothing[..., None].repeat(3, -1),
        seen=nothing.astype(bool),
    )


def flash_pair(case: PublishedCase) -> ScenePair:
    """A published case of FlashVGGT: truth is NaN where it is not valid."""
    given, valid = case.inputs, case.inputs["valid"]
    return dataclasses.replace(
        of_cameras(given["estimated_w2c"], given["true_w2c"]),
        found_depth=given["estimated_depth"],
        confidence=np.ones_like(given["estimated_depth"]),
        found_points=given["estimated_points"],
        seen=np.ones_like(valid),
        true_depth=np.where(valid, given["true_depth"], np.float32(np.nan)),
        true_points=np.where(valid[..., None], given["true_points"], np.float32(np.nan)),
    )


def similar(pair: ScenePair, scale: float = 2.5) -> ScenePair:
    """The same estimate in another world and scale."""
    turn = Rotation.from_rotvec([0.5, -0.8, 0.3]).as_matrix()
    shift = np.array([1.0, -2.0, 3.0])
    world_from_cam = invert_rigid(pair.found_cameras)
    centres = scale * world_from_cam[..., 3] @ turn.T + shift
    moved = np.concatenate([turn @ world_from_cam[..., :3], centres[..., None]], -1)
    points = (scale * pair.found_points @ turn.T + shift).astype(np.float32)
    return dataclasses.replace(
        pair,
        found_cameras=invert_rigid(moved),
        found_depth=(scale * pair.found_depth).astype(np.float32),
        found_points=points,
        head_points=points,
    )


def noisy(pair: ScenePair, size: float = 0.05) -> ScenePair:
    generator = np.random.default_rng(1)
    noise = generator.normal(size=pair.found_points.shape) * size
    cameras = pair.found_cameras.copy()
    cameras[..., 3] += generator.normal(size=cameras.shape[:2]) * size
    return dataclasses.replace(
        pair,
        found_cameras=cameras,
        found_points=(pair.found_points + noise).astype(np.float32),
        head_points=(pair.found_points - noise).astype(np.float32),
        found_depth=(pair.found_depth * (1 + noise[..., 0])).astype(np.float32),
    )


def few(pair: ScenePair, views: int) -> ScenePair:
    """Its first views alone."""
    changes = {
        field.name: value[:views]
        for field in dataclasses.fields(pair)
        if isinstance(value := getattr(pair, field.name), np.ndarray) and field.name != "cloud"
    }
    return dataclasses.replace(pair, **changes)


def lost(pair: ScenePair, view: int | slice) -> ScenePair:
    """With views that the model gave nothing."""
    changes = {}
    for name in ("found_cameras", "found_depth", "confidence", "found_points", "head_points"):
        changes[name] = getattr(pair, name).copy()
        changes[name][view] = np.nan
    return dataclasses.replace(pair, **changes)


def motionless(pair: ScenePair) -> ScenePair:
    """With all estimated cameras in one place."""
    return dataclasses.replace(
        pair, found_cameras=np.repeat(pair.found_cameras[:1], len(pair.found_cameras), 0)
    )


def straight(pair: ScenePair) -> ScenePair:
    """With true and estimated centres on a line."""
    cameras = pair.true_cameras.copy()
    cameras[..., :3] = np.eye(3)
    cameras[..., 3] = -np.arange(len(cameras))[:, None] * np.array([0.3, 0.1, 0.0])
    return dataclasses.replace(pair, true_cameras=cameras, found_cameras=cameras * [1, 1, 1, 2.0])


def without_depth(pair: ScenePair) -> ScenePair:
    return dataclasses.replace(pair, true_depth=None, true_points=None)


def nothing_measured(pair: ScenePair) -> ScenePair:
    """Depth maps that hold no measurement."""
    return dataclasses.replace(
        pair,
        true_depth=np.full_like(pair.true_depth, np.nan),
        true_points=np.full_like(pair.true_points, np.nan),
    )


def one_point(pair: ScenePair) -> ScenePair:
    """With one true pixel in all."""
    depth, points = np.full_like(pair.true_depth, np.nan), np.full_like(pair.true_points, np.nan)
    depth[0, 5, 5], points[0, 5, 5] = pair.true_depth[0, 5, 5], pair.true_points[0, 5, 5]
    return dataclasses.replace(pair, true_depth=depth, true_points=points)


def filled(pair: ScenePair, value: float, share: float = 1.0) -> ScenePair:
    """With a value for what was estimated of depth and points in every so many pixels."""
    which = np.random.default_rng(3).random(pair.found_depth.shape) < share
    depth, confidence = (values.copy() for values in (pair.found_depth, pair.confidence))
    points, head = (values.copy() for values in (pair.found_points, pair.head_points))
    for values in (depth, confidence, points, head):
        values[which] = value
    return dataclasses.replace(
        pair, found_depth=depth, confidence=confidence, found_points=points, head_points=head
    )


def infinite_cameras(pair: ScenePair, views: int) -> ScenePair:
    """With cameras that are infinitely far away."""
    cameras = pair.found_cameras.copy()
    cameras[:views, :, 3] = np.inf
    return dataclasses.replace(pair, found_cameras=cameras)
