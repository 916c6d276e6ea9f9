"""Intersection of rays with the objects of scenes; the parameter of a ray is the z-depth."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from .scenes import Scenes
from .terrain import intersect_ground

_NEAR = 1e-3
Rays = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Hits:
    """The first intersection of each ray: z-depth (inf where none), and the object's slot (0 where none)."""

    z_depth: Float[Tensor, "b views n"]
    slot: Int[Tensor, "b views n"]


def camera_rays(scenes: Scenes, height: int, width: int, samples: int) -> Rays:
    """World directions, three [b, views, n], rows first; each advances by one in z-depth."""
    rows = (torch.arange(height * samples, device=scenes.eye.device) + 0.5) / samples
    columns = (torch.arange(width * samples, device=scenes.eye.device) + 0.5) / samples
    k = scenes.intrinsics[..., None]
    x = ((columns - k[..., 0, 2, :]) / k[..., 0, 0, :])[..., None, :]
    y = ((rows - k[..., 1, 2, :]) / k[..., 1, 1, :])[..., :, None]
    turn = scenes.cam_from_world[..., :3]  # rows are the camera's axes in the world

    def axis(i: int) -> Tensor:
        right, down, forward = (turn[..., j, i, None, None] for j in range(3))
        return (right * x + (down * y + forward)).flatten(2)

    return axis(0), axis(1), axis(2)


_STEEPEST = 1e9


def cast(scenes: Scenes, rays: Rays) -> Hits:
    """The first intersection of each ray with the scene it belongs to."""
    dx = rays[0]
    z_depth = torch.full_like(dx, torch.inf) if scenes.outdoor else _room_wall(scenes, rays)
    slot = torch.zeros(dx.shape, dtype=torch.int32, device=dx.device)
    inverses = _inverses(rays)
    for number in range(1, 1 + sum(scenes.counts)):
        near, far = _interval(scenes, number, scenes.eye.unbind(-1), rays, inverses)
        # A missed sphere or cylinder has the root of a negative number, NaN, and compares as no hit.
        hit = (near < far) & (near > _NEAR) & (near < z_depth)
        z_depth = torch.where(hit, near, z_depth)
        slot.masked_fill_(hit, number)
    if scenes.terrain is not None:
        ground = intersect_ground(scenes.terrain, scenes.eye, rays, z_depth)
        slot.masked_fill_(ground < z_depth, 0)
        z_depth = torch.minimum(ground, z_depth)
    return Hits(z_depth, slot)


def in_shadow(scenes: Scenes, points: Rays, directions: Rays) -> Tensor:
    """Whether an object lies between each point and its light, at point + direction (not: the ground)."""
    inverses = _inverses(directions)
    shadow = torch.zeros(directions[0].shape, dtype=torch.bool, device=directions[0].device)
    for number in range(1, 1 + sum(scenes.counts)):
        near, far = _interval(scenes, number, points, directions, inverses)
        shadow |= (near < far) & (near > 0) & (near < 1)
    return shadow


def _inverses(rays: Rays) -> Rays:
    """Inverses of dz, of the square of the level part, and of the squared length."""
    dx, dy, dz = rays
    level_square = dx * dx + dy * dy
    return dz.reciprocal(), level_square.reciprocal(), (level_square + dz * dz).reciprocal()


def _interval(
    scenes: Scenes, number: int, origin: Sequence[Tensor], rays: Rays, inverses: Rays
) -> tuple[Tensor, Tensor]:
    """Parameters at which rays enter an object and leave it; near is not below far, or NaN, where they miss.

    The origin is one a view [b, views] or one a ray [b, views, n], three coordinates.
    """
    dx, dy, dz = rays
    up_inverse, level_inverse, length_inverse = inverses
    boxes, spheres, _ = scenes.counts
    half = scenes.half[:, number, :, None, None]
    ox, oy, oz = (
        (value if value.ndim == 3 else value[..., None]) - scenes.centre[:, number, i, None, None]
        for i, value in enumerate(origin)
    )
    if number <= boxes:
        near, far = _slab(oz, up_inverse, half[:, 2])
        cos, sin = (scenes.turn[:, number, i, None, None] for i in range(2))
        for along, ray, reach in (
            (cos * ox + sin * oy, torch.addcmul(cos * dx, sin, dy), half[:, 0]),
            (cos * oy - sin * ox, torch.addcmul(cos * dy, -sin, dx), half[:, 1]),
        ):
            enter, leave = _slab(along, ray.reciprocal_(), reach)
            near, far = torch.maximum(near, enter), torch.minimum(far, leave)
    elif number <= boxes + spheres:
        # From the point of the ray nearest to the centre: no small difference of large squares.
        middle = -(ox * dx + oy * dy + oz * dz) * length_inverse
        px, py, pz = (torch.addcmul(start, middle, ray) for start, ray in zip((ox, oy, oz), rays))
        beside = torch.addcmul(torch.addcmul(px * px, py, py), pz, pz)
        near = middle - torch.sqrt((half[:, 0] * half[:, 0].abs() - beside) * length_inverse)
        far = middle
    else:
        near, far = _slab(oz, up_inverse, half[:, 2])
        middle = -(ox * dx + oy * dy) * level_inverse
        beside = (ox * dy - oy * dx) ** 2 * level_inverse
        reach = torch.sqrt((half[:, 0] * half[:, 0].abs() - beside) * level_inverse)
        near, far = torch.maximum(near, middle - reach), torch.minimum(far, middle + reach)
    return near, far


def _slab(offset: Tensor, inverse: Tensor, half: Tensor) -> tuple[Tensor, Tensor]:
    """Ray parameters at which the slab |coordinate| <= half is entered and left; an empty slab never is."""
    inverse = inverse.clamp(-_STEEPEST, _STEEPEST)  # a ray along the slab would give inf - inf
    middle = -offset * inverse
    reach = inverse.abs() * half
    return middle - reach, middle + reach


def _room_wall(scenes: Scenes, rays: Rays) -> Tensor:
    """Ray parameter at which the room's box is left."""
    offset, half = (scenes.eye - scenes.centre[:, :1])[..., None], scenes.half[:, :1, :, None]
    leave = (_slab(offset[:, :, i], ray.reciprocal(), half[:, :, i])[1] for i, ray in enumerate(rays))
    return functools.reduce(torch.minimum, leave)
