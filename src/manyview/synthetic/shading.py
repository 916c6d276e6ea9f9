"""Colour of what a ray hits: texture, light and haze."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from . import surfaces
from .raycast import Hits, Rays, in_shadow
from .scenes import HAZE_COLOUR, Scenes
from .terrain import slope
from .textures import TextureBank, sample

_AMBIENT = 0.4
_SHININESS = 30
_CLOUD_COLOUR = 0.93
_OFF_SURFACE = 0.01  # metres by which rays to the light start before the surface
_RIM = 1.0 - 1e-4  # beyond this share of its height a cylinder's point is on a cap


@dataclass(frozen=True)
class _Spots:
    """The points hit, every tensor [b, views, n].

    `t` is the z-depth (0 at the sky), `world` the point, `local` the point in the axes of its object,
    metres, `normal` the unit world normal (0 at the sky), `face` 0 to 5 for -x, +x, -y, +y, -z, +z.
    """

    hit: Tensor
    t: Tensor
    world: Rays
    local: Rays
    normal: Rays
    face: Tensor


def shade(
    scenes: Scenes, rays: Rays, hits: Hits, bank: TextureBank
) -> tuple[Float[Tensor, "b views n 3"], Float[Tensor, "b views n 3"]]:
    """Colours in [0, 1] and unit world normals (zero where the sky is)."""
    spots = _spots(scenes, rays, hits)
    appearance = _gathered(scenes.surfaces, hits.slot * surfaces.FACES + spots.face)
    albedo = _albedo(scenes, bank, appearance, rays, spots)
    lit, highlight = _light(scenes, spots, rays, appearance[surfaces.GLOSS])
    dx, dy, dz = rays
    length_square = dx * dx + dy * dy + dz * dz
    clear = torch.exp(-scenes.haze[:, None, None] * (spots.t * length_square.sqrt()))
    cover = _cloud_cover(bank, rays, scenes.clouds) if scenes.outdoor and scenes.clouds > 0 else None
    rise = (dz * length_square.rsqrt()).clamp_min(0.0).sqrt() if scenes.outdoor else None
    channels = []
    for channel, own in enumerate(albedo):
        colour = own * lit if highlight is None else torch.addcmul(highlight, own, lit)
        colour = HAZE_COLOUR + (colour - HAZE_COLOUR) * clear
        if rise is not None:
            zenith = scenes.sky[:, channel, None, None]
            sky = HAZE_COLOUR + (zenith - HAZE_COLOUR) * rise
            sky = sky if cover is None else torch.lerp(sky, cover.new_tensor(_CLOUD_COLOUR), cover)
            colour = torch.where(spots.hit, colour, sky)
        channels.append((colour * scenes.exposure[..., channel, None]).clamp_(0.0, 1.0))
    return torch.stack(channels, -1), torch.stack(spots.normal, -1)


def _spots(scenes: Scenes, rays: Rays, hits: Hits) -> _Spots:
    hit = torch.isfinite(hits.z_depth)
    t = hits.z_depth.masked_fill(~hit, 0.0)
    x, y, z = (torch.addcmul(scenes.eye[..., i, None], t, ray) for i, ray in enumerate(rays))

    # The point in its object's axes: in metres, and as shares q of the half size.
    table = torch.cat([scenes.centre, scenes.turn, scenes.half.reciprocal()], -1).movedim(-1, 0)
    x0, y0, z0, cos, sin, ix, iy, iz = _gathered(table, hits.slot)
    px, py, pz = x - x0, y - y0, z - z0
    lx, ly = torch.addcmul(cos * px, sin, py), torch.addcmul(cos * py, -sin, px)
    qx, qy, qz = lx * ix, ly * iy, pz * iz

    boxes, spheres, _ = scenes.counts
    is_shell = hits.slot == 0
    is_cylinder = hits.slot > boxes + spheres
    ax, ay, az = qx.abs(), qy.abs(), qz.abs()
    upright = is_cylinder & (az < _RIM)  # the mantle, which has no lid there
    lid = ((az >= torch.maximum(ax, ay)) | is_cylinder) & ~upright
    if scenes.outdoor:  # the ground is one face, looking up
        lid = lid | is_shell
        qz = torch.where(is_shell, 1.0, qz)
    faces_x, faces_y = (ax >= ay) & ~lid, (ax < ay) & ~lid
    face = torch.where(lid, 4 + (qz > 0).int(), torch.where(faces_x, (qx > 0).int(), 2 + (qy > 0).int()))

    # Normals: the radius where round, else the face's axis, which looks inward in a room.
    is_round = (hits.slot > boxes) & ~(is_cylinder & lid)
    nx = torch.where(is_round, qx, faces_x * qx.sign())
    ny = torch.where(is_round, qy, faces_y * qy.sign())
    nz = torch.where(is_round, qz.masked_fill(upright, 0.0), lid * qz.sign())
    nx, ny = torch.addcmul(cos * nx, -sin, ny), torch.addcmul(cos * ny, sin, nx)
    if scenes.terrain is None:
        inward = torch.where(is_shell, -1.0, 1.0)
        normal = (nx * inward, ny * inward, nz * inward)
    else:
        slope_x, slope_y = slope(scenes.terrain, x, y)
        scale = torch.rsqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
        normal = (
            torch.where(is_shell, -slope_x * scale, nx) * hit,
            torch.where(is_shell, -slope_y * scale, ny) * hit,
            torch.where(is_shell, scale, nz) * hit,
        )
    return _Spots(hit, t, (x, y, z), (lx, ly, pz), normal, face)


def _cloud_cover(bank: TextureBank, rays: Rays, strength: float) -> Tensor:
    """How much of the sky clouds hide, from a smooth tile on a plane far above."""
    dx, dy, dz = rays
    height = dz.clamp_min(0.0) + 0.1 * torch.hypot(dx, dy)
    u, v = (0.15 * (level / height).clamp(-50, 50) for level in (dx, dy))
    tile = torch.zeros_like(u)
    texel = sample(bank, *(value.flatten() for value in (tile, u, v, torch.full_like(u, 1e-3))))
    fine = sample(
        bank, *(value.flatten() for value in (tile + bank.smooth, 2 * u, 2 * v, torch.full_like(u, 0.02)))
    )
    return strength * torch.sigmoid(3 * (texel[:, 0] + 0.3 * fine[:, 0])).view(u.shape)


def _albedo(scenes: Scenes, bank: TextureBank, appearance: Tensor, rays: Rays, spots: _Spots) -> list[Tensor]:
    """The three channels of the surface's own colour, each [b, views, n]."""
    lx, ly, lz = spots.local
    u = torch.where(spots.face < 2, ly, lx)
    v = torch.where(spots.face < 4, lz, ly)
    density, cos, sin = appearance[surfaces.DENSITY], appearance[surfaces.COS], appearance[surfaces.SIN]
    u, v = (
        torch.addcmul(appearance[surfaces.SHIFT_U], density, torch.addcmul(cos * u, -sin, v)),
        torch.addcmul(appearance[surfaces.SHIFT_V], density, torch.addcmul(cos * v, sin, u)),
    )
    # Edge of the pixel on the surface: its size at this depth, longer where the surface is seen aslant.
    aslant = _dot(rays, spots.normal).abs().clamp_min(0.25)
    footprint = spots.t / scenes.intrinsics[..., 0, 0, None] * density * torch.rsqrt(aslant)
    texel = _texel(bank, *(value.flatten() for value in (appearance[surfaces.TILE], u, v, footprint)))
    a, b, c = (channel.view(u.shape) for channel in texel.unbind(-1))
    colours = []
    for channel in range(3):
        base, mix = appearance[surfaces.BASE + channel], appearance[surfaces.MIX + 3 * channel :]
        colour = torch.addcmul(torch.addcmul(torch.addcmul(base, mix[0], a), mix[1], b), mix[2], c)
        colours.append(colour.clamp_(0.03, 0.97))
    return colours


def _texel(bank: TextureBank, tile: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Tensor:
    """Drawn tiles and pictures by their number."""
    if bank.pictures is None:
        return sample(bank, tile, u, v, footprint)
    found = tile.new_empty(len(tile), 3)
    for part, chosen, first in (
        (bank, tile < bank.tiles, 0),
        (bank.pictures, tile >= bank.tiles, bank.tiles),
    ):
        where = chosen.nonzero().squeeze(1)
        own = (value.index_select(0, where) for value in (tile - first, u, v, footprint))
        found.index_copy_(0, where, sample(part, *own))
    return found


def _light(scenes: Scenes, spots: _Spots, rays: Rays, gloss: Tensor) -> tuple[Tensor, Tensor | None]:
    """(Lambert's factor on the surface's own colour, Blinn's highlight where a surface has one).

    From one light and ambient light; objects keep the light from what is behind them.
    """
    x, y, z = spots.world
    toward = (scenes.light[..., 0, None] - x, scenes.light[..., 1, None] - y, scenes.light[..., 2, None] - z)
    inverse = torch.rsqrt(_dot(toward, toward) + 1e-6)
    facing = (_dot(toward, spots.normal) * inverse).clamp_min(0.0)
    if scenes.shadows > 0:
        start = _moved(spots.world, toward, _OFF_SURFACE * inverse)
        facing = facing * (1.0 - scenes.shadows * in_shadow(scenes, start, toward).float())
    lambert = _AMBIENT + (1.1 - _AMBIENT) * facing
    lit = 1.0 + scenes.light_strength * (lambert - 1.0)
    if not bool((scenes.surfaces[surfaces.GLOSS] > 0).any()):
        return lit, None
    backward = torch.rsqrt(_dot(rays, rays))
    middle = _moved((toward[0] * inverse, toward[1] * inverse, toward[2] * inverse), rays, -backward)
    shine = _dot(middle, spots.normal) * torch.rsqrt(_dot(middle, middle) + 1e-6)
    return lit, gloss * shine.clamp_min(0.0) ** _SHININESS * (facing > 0)


def _moved(start: Rays, direction: Rays, length: Tensor) -> Rays:
    x, y, z = (torch.addcmul(at, along, length) for at, along in zip(start, direction))
    return x, y, z


def _dot(a: Rays, b: Rays) -> Tensor:
    return torch.addcmul(torch.addcmul(a[0] * b[0], a[1], b[1]), a[2], b[2])


def _gathered(table: Tensor, index: Tensor) -> Tensor:
    """Rows of a table [rows, b, m] at each scene's index [b, views, n] -> [rows, b, views, n]."""
    rows, count, width = table.shape
    first = width * torch.arange(count, dtype=index.dtype, device=index.device)[:, None, None]
    return table.flatten(1).index_select(1, (index + first).flatten()).view(rows, *index.shape)
