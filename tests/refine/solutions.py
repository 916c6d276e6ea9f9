"""Solutions made from the truth of an analytic room, and results of a network that is off."""

from __future__ import annotations

import dataclasses

import numpy as np

from manyview.geometry.unproject_np import nearest_rigid, project
from manyview.reconstruction.result.result import Reconstruction
from manyview.reconstruction.result.tracks import Tracks
from manyview.refine.solution import HeldOutMatches, Solution
from tests.analytic_scene import Truth, room_scene


def turned(cam_from_world: np.ndarray, degrees: float, shift: float, seed: int = 0) -> np.ndarray:
    """Cameras turned and shifted at random."""
    rng = np.random.default_rng(seed)
    axes = rng.standard_normal((len(cam_from_world), 3))
    axes *= np.radians(degrees) / np.linalg.norm(axes, axis=1, keepdims=True)
    cross = np.zeros((len(axes), 3, 3))
    cross[:, [2, 0, 1], [1, 2, 0]], cross[:, [1, 2, 0], [2, 0, 1]] = axes, -axes
    changed = (np.eye(3) + cross) @ cam_from_world
    changed[:, :, 3] += shift * rng.standard_normal((len(axes), 3))
    changed[:, :, :3] = [np.linalg.qr(r)[0] * np.sign(np.diag(np.linalg.qr(r)[1])) for r in changed[:, :, :3]]
    return nearest_rigid(changed)[0]


def network_room(
    views: int = 6, degrees: float = 4.0, shift: float = 0.15, focal: float = 1.2
) -> tuple[Reconstruction, Reconstruction, Truth]:
    """(what a network says of the room, the exact scene, its truth); the first camera is exact."""
    exact, truth = room_scene(views=views)
    cameras = turned(exact.cam_from_world, degrees, shift)
    cameras[0] = exact.cam_from_world[0]
    intrinsics = exact.intrinsics.copy()
    intrinsics[:, [0, 1], [0, 1]] *= focal
    scales = np.geomspace(0.8, 1.25, views).astype(np.float32)
    depth = exact.z_depth * scales[:, None, None]
    return (
        dataclasses.replace(exact, cam_from_world=cameras, intrinsics=intrinsics, z_depth=depth),
        exact,
        truth,
    )


def solution_of(
    exact: Reconstruction,
    truth: Truth,
    scale: float = 0.3,
    noise_px: float = 0.2,
    without: tuple[int, ...] = (),
    points: int = 200,
) -> Solution:
    """The truth in another world and unit, with tracks and held-out matches; `without` some views."""
    rng = np.random.default_rng(1)
    views = len(exact)
    start = rng.integers(0, views, points)
    sizes = np.array([[v.transform.upright_width, v.transform.upright_height] for v in exact.views])
    seeds = rng.random((points, 2)) * sizes[start]
    world = np.stack([truth.surface(view, seed[None])[0] for view, seed in zip(start, seeds)])
    pixels, z = project(world[None], truth.cam_from_world, truth.upright_intrinsics)
    seen = (z > 0) & ((pixels > 0) & (pixels < sizes[:, None])).all(-1)
    for view in range(views):  # nothing hides it
        surface = truth.surface(view, np.nan_to_num(pixels[view]))
        seen[view] &= np.linalg.norm(surface - world, axis=1) < 0.02
    seen[list(without)] = False
    pixels = np.nan_to_num(pixels) + noise_px * rng.standard_normal(pixels.shape)
    seen[:, seen.sum(0) < 2] = False
    fitted, held = seen.copy(), seen.copy()
    fitted[:, ::3], held[:, 1::3], held[:, 2::3] = False, False, False
    turn = np.linalg.qr(rng.standard_normal((3, 3)))[0]
    turn *= np.linalg.det(turn)
    moved = truth.cam_from_world.copy()
    centres = -np.einsum("vji,vj->vi", moved[:, :, :3], moved[:, :, 3])
    moved[:, :, :3] = moved[:, :, :3] @ turn.T
    moved[:, :, 3] = -np.einsum("vij,vj->vi", moved[:, :, :3], scale * centres @ turn.T + 1)
    moved[list(without)] = np.nan
    point, view = np.nonzero(fitted.T)
    used, number = np.unique(point, return_inverse=True)
    tracks = Tracks(
        scale * world[used] @ turn.T + 1,
        np.full((len(used), 3), 128, np.uint8),
        number,
        view,
        np.stack([_to_network(exact, v, pixels[v, p]) for p, v in zip(point, view)]),
    )
    pairs = [
        (a, b, pixels[a, p], pixels[b, p])
        for p in np.flatnonzero(held.any(0))
        for a, b in [np.flatnonzero(held[:, p])[[0, -1]]]
    ]
    first, second = (np.array([pair[side] for pair in pairs], dtype=np.int64) for side in (0, 1))
    matches = HeldOutMatches(first, second, *(np.array([pair[side] for pair in pairs]) for side in (2, 3)))
    status = tuple("unrefined" if view in without else "mapped" for view in range(views))
    return Solution(
        moved,
        truth.upright_intrinsics,
        np.zeros((views, 4)),
        np.zeros(views, dtype=np.int64),
        tracks,
        status,
        matches,
        timings_s={"features": 1.0},
    )


def _to_network(scene: Reconstruction, view: int, pixel: np.ndarray) -> np.ndarray:
    return scene.views[view].transform.network_from_upright[:2] @ [*pixel, 1.0]
