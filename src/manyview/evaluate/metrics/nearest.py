"""Nearest neighbours, normals, ICP and thinning of clouds of millions of points, on the CPU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from ...errors import optional_module
from ...geometry.align import umeyama

_CHUNK = 200_000
_CELLS = 40
"""Cells along the longer side of the bulk of a cloud, by which points are ordered."""


def cell_order(points: Float[np.ndarray, "n 3"]) -> Int[np.ndarray, " n"]:
    """An order in which neighbours in space follow each other: searches then find their data in the cache.

    Cells are of the box of the central 90 percent, so that strays do not swallow all others.
    """
    if not len(points):
        return np.arange(0)
    low, high = np.quantile(points[:: max(1, len(points) // 10_000)], [0.05, 0.95], axis=0)
    side = max(float((high - low).max()) / _CELLS, 1e-12)
    cells = ((points - low) / side).clip(-1, _CELLS).astype(np.int64)
    width = _CELLS + 2
    return np.argsort((cells[:, 0] * width + cells[:, 1]) * width + cells[:, 2], kind="stable")


class Neighbours:
    """Nearest neighbours in a cloud; `workers` threads search, -1: all cores."""

    def __init__(self, points: Float[np.ndarray, "n 3"], workers: int = -1) -> None:
        """MissingExtraError without scipy."""
        spatial = optional_module("scipy.spatial", "comparing point clouds", "eval")
        self._order = cell_order(points)
        # Measured on surfaces: loose nodes of many points are three times faster far from the cloud, where
        # tight ones are all about equally near, and as fast beside it.
        self._tree = spatial.cKDTree(
            points[self._order], balanced_tree=False, compact_nodes=False, leafsize=64
        )
        self._workers = workers

    def query(
        self, points: Float[np.ndarray, "m 3"], count: int = 1, within: float = np.inf
    ) -> tuple[Float[np.ndarray, "*shape"], Int[np.ndarray, "*shape"]]:
        """(distance, index) [m, count], [m] for `count` 1; infinite and meaningless beyond `within`."""
        order = cell_order(points)
        distance, index = self._tree.query(
            points[order], k=count, distance_upper_bound=within, workers=self._workers
        )
        # Nothing found is the index one past the last.
        index = np.append(self._order, 0)[index]
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return distance[back], index[back]


def nearest(
    query: Float[np.ndarray, "n 3"], points: Float[np.ndarray, "m 3"], workers: int = -1
) -> tuple[Float[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """(distance, index) of the point nearest to each query; `workers` threads, -1: all cores."""
    return Neighbours(points, workers).query(query)


def estimate_normals(
    points: Float[np.ndarray, "n 3"], neighbours: int = 30, workers: int = -1
) -> Float[np.ndarray, "n 3"]:
    """Unit normal of the plane through each point's nearest `neighbours` (itself among them), sign open.

    Open3D's default search. With fewer than three points, or around one that all its neighbours equal, there
    is no plane: the normal is (0, 0, 1), as Open3D has it.
    """
    if len(points) < 3:
        return np.tile(np.array([0.0, 0.0, 1.0]), (len(points), 1))
    order = cell_order(points)
    ordered = points[order]
    tree = Neighbours(ordered, workers)
    normals = np.empty((len(points), 3))
    rounding = 1e-28 * float(np.square(points).max())
    for start in range(0, len(points), _CHUNK):
        _, index = tree.query(ordered[start : start + _CHUNK], min(neighbours, len(points)))
        around = ordered[index]
        around -= around.mean(1, keepdims=True)
        covariance = np.swapaxes(around, 1, 2) @ around
        # Smallest eigenvector; torch batches small matrices faster than numpy on several cores.
        values, vectors = torch.linalg.eigh(torch.from_numpy(covariance))
        one_place = values[:, 2:] <= rounding
        vectors = torch.where(one_place, vectors.new_tensor([0.0, 0.0, 1.0]), vectors[..., 0])
        normals[order[start : start + _CHUNK]] = vectors.numpy()
    return normals


@dataclass(frozen=True)
class IcpResult:
    """target = rotation @ source + translation; `fitness` is the share of source points with a partner,
    `rmse` the root mean square distance of those (0 for none)."""

    rotation: Float[np.ndarray, "3 3"]
    translation: Float[np.ndarray, " 3"]
    fitness: float
    rmse: float
    iterations: int

    def __call__(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 3"]:
        return points @ self.rotation.T + self.translation


def icp(
    source: Float[np.ndarray, "n 3"],
    target: Float[np.ndarray, "m 3"],
    threshold: float,
    iterations: int = 30,
    tolerance: float = 1e-6,
    workers: int = -1,
) -> IcpResult:
    """Point-to-point ICP (Besl and McKay 1992) from the identity, with the defaults of Open3D.

    Partners are nearest target points within `threshold`; ends when fitness and rmse both change by less than
    `tolerance`. Fewer than three partners do not fix a motion: what was found so far is given.
    """
    rotation, translation = np.eye(3), np.zeros(3)
    if not len(source) or not len(target):
        return IcpResult(rotation, translation, 0.0, 0.0, 0)
    tree = Neighbours(target, workers)
    source = source[cell_order(source)]
    moved, fitness, rmse, done = source, -1.0, -1.0, 0
    for done in range(iterations + 1):
        distance, index = tree.query(moved, within=threshold)
        near = np.isfinite(distance)
        before = fitness, rmse
        fitness = float(near.mean())
        rmse = float(np.sqrt(np.square(distance[near]).mean())) if near.any() else 0.0
        settled = abs(fitness - before[0]) < tolerance and abs(rmse - before[1]) < tolerance
        if settled or near.sum() < 3 or done == iterations:
            break
        _, step_rotation, step_translation = umeyama(
            torch.from_numpy(moved[near]), torch.from_numpy(target[index[near]]), with_scale=False
        )
        rotation = step_rotation.numpy() @ rotation
        translation = step_rotation.numpy() @ translation + step_translation.numpy()
        moved = source @ rotation.T + translation
    return IcpResult(rotation, translation, fitness, rmse, done)


def thin(
    points: Float[np.ndarray, "n 3"], voxel: float, from_origin: bool = False
) -> Float[np.ndarray, "m 3"]:
    """The mean of the points in each cube of side `voxel`, as Open3D's voxel_down_sample: the least of each
    coordinate is in the middle of a cube. `from_origin`: the origin is a corner of one (SpatialBench)."""
    if not len(points):
        return points
    cells = np.floor((points if from_origin else points - points.min(0) + voxel / 2) / voxel)
    cells = (cells - cells.min(0)).astype(np.int64)
    size = cells.max(0) + 1
    key = (cells[:, 0] * size[1] + cells[:, 1]) * size[2] + cells[:, 2]
    _, place, count = np.unique(key, return_inverse=True, return_counts=True)
    return np.stack([np.bincount(place, points[:, axis]) / count for axis in range(3)], axis=-1)


def draw(count: int, most: int | None, seed: int, legacy: bool = False) -> Int[np.ndarray, " drawn"]:
    """`most` of `count` indices without repetition, rising, all of them if there are no more (None: ever).

    With `legacy` those that `np.random.seed(seed)` and `np.random.choice` draw, as published scripts do.
    """
    if most is None or count <= most:
        return np.arange(count)
    generator = np.random.RandomState(seed) if legacy else np.random.default_rng(seed)
    return np.sort(generator.choice(count, most, replace=False))


def draw_on_mesh(
    vertices: Float[np.ndarray, "n 3"], triangles: Int[np.ndarray, "m 3"], count: int, seed: int
) -> Float[np.ndarray, "count 3"]:
    """Points evenly distributed over the area of a mesh."""
    first, second, third = (vertices[triangles[:, corner]].astype(np.float64) for corner in range(3))
    first_edge, second_edge = second - first, third - first
    area = np.linalg.norm(np.cross(first_edge, second_edge), axis=1).cumsum()
    generator = np.random.default_rng(seed)
    at = np.searchsorted(area, generator.random(count) * area[-1], side="right").clip(max=len(area) - 1)
    u, v = generator.random((2, count, 1))
    u, v = np.where(u + v > 1, 1 - u, u), np.where(u + v > 1, 1 - v, v)
    return first[at] + u * first_edge[at] + v * second_edge[at]
