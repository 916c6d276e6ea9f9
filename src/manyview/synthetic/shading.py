"""Colour of what a ray meets: texture, light and haze."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from manyview.synthetic import surfaces as look
from manyview.synthetic.raycast import Hits, Rays
from manyview.synthetic.scenes import HAZE_COLOUR, Scenes
from manyview.synthetic.terrain import slope
from manyview.synthetic.textures import TextureBank, sample

_AMBIENT = 0.4
_RIM = 1.0 - 1e-4  # beyond this share of its height a cylinder's point is on a cap


def shade(
    scenes: Scenes, rays: Rays, hits: Hits, bank: TextureBank
) -> tuple[Float[Tensor, "b views n 3"], Float[Tensor, "b views n 3"]]:
    """Colours in [0, 1] and unit world normals (zero where the sky is)."""
    dx, dy, dz = rays
    met = torch.isfinite(hits.z_depth)
    t = hits.z_depth if not scenes.outdoor else hits.z_depth.masked_fill(~met, 0.0)
    eye = [scenes.eye[..., i, None] for i in range(3)]
    x, y, z = (torch.addcmul(start, t, ray) for start, ray in zip(eye, rays))
    scene_index = torch.arange(len(scenes.eye), dtype=torch.int32, device=x.device)[:, None, None]

    # Local coordinates of the point in its object: metres, and as shares of the half size.
    table = torch.cat([scenes.centre, scenes.turn, scenes.half.reciprocal()], -1).movedim(-1, 0).flatten(1)
    slots = scenes.half.shape[1]
    rows = table.index_select(1, (hits.slot + slots * scene_index).flatten()).view(8, *x.shape)
    x0, y0, z0, cos, sin, ix, iy, iz = rows.unbind()
    px, py, pz = x - x0, y - y0, z - z0
    lx, ly = torch.addcmul(cos * px, sin, py), torch.addcmul(cos * py, -sin, px)
    qx, qy, qz = lx * ix, ly * iy, pz * iz

    boxes, spheres, _ = scenes.counts
    first_ball, first_cylinder = 1 + boxes, 1 + boxes + spheres
    is_round = hits.slot >= first_ball
    is_cylinder = hits.slot >= first_cylinder
    ax, ay, az = qx.abs(), qy.abs(), qz.abs()
    side = is_cylinder & (az < _RIM)
    faces_z = ((az >= ax) & (az >= ay) & ~side) | (is_cylinder & ~side)
    is_shell = hits.slot == 0
    if scenes.outdoor:
        faces_z = faces_z | is_shell
        qz = torch.where(is_shell, 1.0, qz)
    faces_x = (ax >= ay) & ~faces_z
    faces_y = ~faces_x & ~faces_z
    smooth = is_round & ~(is_cylinder & ~side)

    # Normals: the face's axis, or the radius where round; inward for a room, the slope's for ground.
    nx = torch.where(smooth, qx, faces_x * qx.sign())
    ny = torch.where(smooth, qy, faces_y * qy.sign())
    nz = torch.where(smooth, qz.masked_fill(side, 0.0), faces_z * qz.sign())
    nx, ny = torch.addcmul(cos * nx, -sin, ny), torch.addcmul(cos * ny, sin, nx)
    if scenes.terrain is not None:
        slope_x, slope_y = slope(scenes.terrain, x, y)
        scale = torch.rsqrt(1.0 + slope_x * slope_x + slope_y * slope_y)
        nx, ny, nz = (
            torch.where(is_shell, ground, other)
            for ground, other in ((-slope_x * scale, nx), (-slope_y * scale, ny), (scale, nz))
        )
        nx, ny, nz = nx * met, ny * met, nz * met
    else:
        inward = torch.where(is_shell, -1.0, 1.0)
        nx, ny, nz = nx * inward, ny * inward, nz * inward

    albedo = _albedo(
        scenes, bank, hits, rays, t, (lx, ly, pz), (qx, qy, qz), (nx, ny, nz), faces_x, faces_z, scene_index
    )

    tx, ty, tz = (scenes.light[..., i, None] - value for i, value in enumerate((x, y, z)))
    facing = (nx * tx + ny * ty + nz * tz) * torch.rsqrt(tx * tx + ty * ty + tz * tz + 1e-6)
    lit = (1.0 - scenes.light_strength) + scenes.light_strength * (
        _AMBIENT + (1.1 - _AMBIENT) * facing.clamp_min(0.0)
    )
    distance = t * torch.sqrt(dx * dx + dy * dy + dz * dz)
    clear = torch.exp(-scenes.haze[:, None, None] * distance)
    channels = []
    rise = (
        torch.sqrt((dz * torch.rsqrt(dx * dx + dy * dy + dz * dz)).clamp_min(0.0)) if scenes.outdoor else dz
    )
    for channel in range(3):
        colour = HAZE_COLOUR + (albedo[channel] * lit - HAZE_COLOUR) * clear
        if scenes.outdoor:
            zenith = scenes.sky[:, channel, None, None]
            colour = torch.where(met, colour, HAZE_COLOUR + (zenith - HAZE_COLOUR) * rise)
        channels.append((colour * scenes.exposure[..., channel, None]).clamp_(0.0, 1.0))
    return torch.stack(channels, -1), torch.stack([nx, ny, nz], -1)


def _albedo(scenes, bank, hits, rays, t, local, share, normal, faces_x, faces_z, scene_index) -> list[Tensor]:
    """The three channels of the surface's own colour, each [b, views, n]."""
    lx, ly, lz = local
    qx, qy, qz = share
    face = torch.where(faces_z, 4 + (qz > 0).int(), torch.where(faces_x, (qx > 0).int(), 2 + (qy > 0).int()))
    faces = scenes.surfaces.shape[2]
    index = (hits.slot * look.FACES + face + faces * scene_index).flatten()
    looks = scenes.surfaces.flatten(1).index_select(1, index).view(look.LOOKS, *t.shape)
    u = torch.where(faces_x, ly, lx)
    v = torch.where(faces_z, ly, lz)
    density, cos, sin = looks[look.DENSITY], looks[look.COS], looks[look.SIN]
    u, v = (
        torch.addcmul(looks[look.SHIFT_U], density, torch.addcmul(cos * u, -sin, v)),
        torch.addcmul(looks[look.SHIFT_V], density, torch.addcmul(cos * v, sin, u)),
    )
    # Edge of the pixel on the surface: its size at this depth, longer where the surface is seen aslant.
    dx, dy, dz = rays
    aslant = (dx * normal[0] + dy * normal[1] + dz * normal[2]).abs().clamp_min(0.25)
    pixel = t / scenes.intrinsics[..., 0, 0, None]
    footprint = pixel * density * torch.rsqrt(aslant)
    texel = sample(bank, looks[look.TILE].flatten(), u.flatten(), v.flatten(), footprint.flatten())
    a, b, c = (channel.view(t.shape) for channel in texel.unbind(-1))
    mix = looks[look.MIX :]
    return [
        torch.addcmul(
            torch.addcmul(torch.addcmul(looks[look.BASE + i], mix[3 * i], a), mix[3 * i + 1], b),
            mix[3 * i + 2],
            c,
        ).clamp_(0.03, 0.97)
        for i in range(3)
    ]
