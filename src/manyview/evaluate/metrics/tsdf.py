"""Depth maps of known cameras fused into one surface: a truncated signed distance field in sparse blocks.

Sources: Curless and Levoy, SIGGRAPH 1996 (the running mean of truncated distances); Niessner et al., SIGGRAPH
Asia 2013 (blocks of voxels only where there is surface). As Open3D's scalable volume does, a view is fused
into every voxel of the blocks that its surface touches, so that it also clears free space near surfaces.
The surface is given as points, where the field changes its sign between neighbouring voxels; no mesh.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

_SIDE = 8
"""Voxels along a block."""
_BITS = 20
_HALF = 1 << (_BITS - 1)
"""Block coordinates lie in [-_HALF, _HALF): three of them make one 60-bit key."""
_SURE = 0.98
"""Values beyond this are truncated, no distance: Open3D's bound of what makes a crossing."""


@dataclass(frozen=True)
class TsdfOptions:
    """Lengths in the unit of the world. Depth beyond `farthest` is left out.

    Where the surface would take more than `most_blocks` blocks (2 KiB of distances and as much of weights
    each), `voxel` and `truncation` are doubled until it does not.
    """

    voxel: float
    truncation: float
    farthest: float = math.inf
    most_blocks: int = 200_000

    def __post_init__(self) -> None:
        if not (0 < self.voxel <= self.truncation and self.most_blocks > 0):
            raise ValueError("a voxel is a length, and distances are truncated at one voxel or more")


@dataclass(frozen=True)
class Surface:
    """Points of the surface, float64, and the side of the voxels that it was made with."""

    points: Float[Tensor, "n 3"]
    voxel: float


@dataclass(frozen=True)
class _View:
    depth: Float[Tensor, "height width"]
    cam_from_world: Float[Tensor, "3 4"]
    intrinsics: Float[Tensor, "3 3"]


def fuse(
    depth: Float[Tensor, "views height width"],
    cam_from_world: Float[Tensor, "views 3 4"],
    intrinsics: Float[Tensor, "views 3 3"],
    options: TsdfOptions,
) -> Surface:
    """The surface of z-depth (NaN, infinite or not positive: none), pixel centres at +0.5.

    Views whose camera is not finite are left out; no view with depth gives no point.
    """
    depth = torch.where(depth.isfinite() & (depth > 0) & (depth <= options.farthest), depth, torch.nan)
    sure = cam_from_world.flatten(1).isfinite().all(1) & intrinsics.flatten(1).isfinite().all(1)
    sure &= depth.flatten(1).isfinite().any(1)
    views = [
        _View(depth[i].float(), cam_from_world[i].double(), intrinsics[i].double())
        for i in sure.nonzero()[:, 0].tolist()
    ]
    if not views:
        return Surface(torch.zeros(0, 3, dtype=torch.float64), options.voxel)
    points = [_points(view) for view in views]
    # In single precision only the distance from here counts, not that of a world far from its origin.
    middle = torch.stack([p.median(0).values for p in points]).median(0).values
    voxel, truncation = options.voxel, options.truncation
    while True:
        touched = [_touched(p - middle, voxel, truncation) for p in points]
        blocks = torch.cat(touched).unique()
        if len(blocks) <= options.most_blocks:
            break
        voxel, truncation = 2 * voxel, 2 * truncation
    value = torch.zeros(len(blocks), _SIDE**3)
    weight = torch.zeros(len(blocks), _SIDE**3)
    for view, keys in zip(views, touched):
        place = torch.searchsorted(blocks, keys)
        found, counts = _distances(view, _centres(keys, voxel), middle, truncation)
        own = weight[place]
        weight[place] = own + counts
        value[place] = (value[place] * own + found * counts) / (own + counts).clamp(min=1)
    return Surface(_crossings(blocks, value, weight, voxel) + middle, voxel)


def _points(view: _View) -> Float[Tensor, "n 3"]:
    """World points of the pixels with depth, float64."""
    row, column = view.depth.isfinite().nonzero(as_tuple=True)
    k = view.intrinsics
    z = view.depth[row, column].double()
    x = (column + 0.5 - k[0, 2]) / k[0, 0] * z
    y = (row + 0.5 - k[1, 2]) / k[1, 1] * z
    return (torch.stack([x, y, z], -1) - view.cam_from_world[:, 3]) @ view.cam_from_world[:, :3]


def _touched(points: Float[Tensor, "n 3"], voxel: float, truncation: float) -> Int[Tensor, " m"]:
    """Keys of all blocks within the truncation of a point, rising."""
    side = _SIDE * voxel
    # Of the points in a small cube one is enough if what it reaches is wider by that cube.
    cell = side / 4
    cubes = _key((points / cell).floor().long()).unique()
    corner = _unpack(cubes) * cell
    reach = torch.linspace(-truncation, truncation + cell, 1 + math.ceil((2 * truncation + cell) / side))
    keys = [
        _key(((corner + torch.stack([x, y, z]).double()) / side).floor().long())
        for x in reach
        for y in reach
        for z in reach
    ]
    return torch.cat(keys).unique()


def _key(coordinates: Int[Tensor, "n 3"]) -> Int[Tensor, " n"]:
    bounded = coordinates.clamp(-_HALF, _HALF - 1) + _HALF
    return (bounded[:, 0] << 2 * _BITS) | (bounded[:, 1] << _BITS) | bounded[:, 2]


def _unpack(keys: Int[Tensor, " n"]) -> Int[Tensor, "n 3"]:
    mask = (1 << _BITS) - 1
    return torch.stack([keys >> 2 * _BITS, (keys >> _BITS) & mask, keys & mask], -1) - _HALF


def _centres(keys: Int[Tensor, " n"], voxel: float) -> Float[Tensor, "n voxels 3"]:
    """Centres of the voxels of blocks, single precision, about the middle."""
    steps = torch.arange(_SIDE)
    inside = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij"), -1).reshape(1, -1, 3)
    return ((_unpack(keys)[:, None] * _SIDE + inside).float() + 0.5) * voxel


def _distances(
    view: _View, centres: Float[Tensor, "n voxels 3"], middle: Float[Tensor, " 3"], truncation: float
) -> tuple[Float[Tensor, "n voxels"], Float[Tensor, "n voxels"]]:
    """(truncated distance in [-1, 1], 1 where the view has one): positive in front of the surface."""
    height, width = view.depth.shape
    rotation = view.cam_from_world[:, :3]
    shift = (view.cam_from_world[:, 3] + rotation @ middle).float()
    x, y, z = (centres @ rotation.float().T + shift).unbind(-1)
    k = view.intrinsics.float()
    ahead = z.clamp(min=1e-9)
    ray_x, ray_y = x / ahead, y / ahead
    column = (ray_x * k[0, 0] + k[0, 2]).clamp(-1, width).floor().long()
    row = (ray_y * k[1, 1] + k[1, 2]).clamp(-1, height).floor().long()
    inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    seen = view.depth[row.clamp(0, height - 1), column.clamp(0, width - 1)]
    distance = (seen - z) * (1 + ray_x.square() + ray_y.square()).sqrt() / truncation
    measured = inside & (distance >= -1)
    return torch.where(measured, distance.clamp(max=1), 0.0), measured.float()


def _crossings(
    blocks: Int[Tensor, " n"],
    value: Float[Tensor, "n voxels"],
    weight: Float[Tensor, "n voxels"],
    voxel: float,
) -> Float[Tensor, "m 3"]:
    """Where lines between the centres of neighbours intersect the surface, float64, about the middle."""
    shape = (len(blocks), _SIDE, _SIDE, _SIDE)
    unsure = (weight == 0) | (value.abs() >= _SURE)
    value = value.masked_fill(unsure, torch.nan).reshape(shape)
    found = []
    for axis in range(3):
        next_key = blocks + (1 << _BITS * (2 - axis))
        place = torch.searchsorted(blocks, next_key).clamp(max=len(blocks) - 1)
        beyond = value.select(axis + 1, 0)[place]
        beyond[blocks[place] != next_key] = torch.nan
        after = torch.cat([value.narrow(axis + 1, 1, _SIDE - 1), beyond.unsqueeze(axis + 1)], axis + 1)
        block, *inside = ((value * after < 0) | ((value == 0) & after.isfinite())).nonzero(as_tuple=True)
        here, there = value[block, *inside].double(), after[block, *inside].double()
        point = (_unpack(blocks[block]) * _SIDE + torch.stack(inside, -1)).double() + 0.5
        point[:, axis] += here.abs() / (here.abs() + there.abs()).clamp(min=1e-12)
        found.append(point * voxel)
    return torch.cat(found)
