"""Ground of outdoor scenes: a height field made of waves, met by rays exactly."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from manyview.synthetic.draws import Draws

WAVES = 3
FAR = 90.0  # metres; rays that meet no ground before this see the sky
_MARCH_STEPS = 28
_REFINE_STEPS = 8


@dataclass(frozen=True)
class Terrain:
    """z = sum of amplitude * sin(kx x + ky y + phase), metres; each field [b, WAVES]."""

    amplitude: Tensor
    kx: Tensor
    ky: Tensor
    phase: Tensor


def draw_terrain(draws: Draws, relief: float) -> dict[str, Float[np.ndarray, "b waves"]]:
    """Fields of a Terrain: waves of 16 to 45 m, slopes up to about 0.35 at full relief."""
    wavelength = draws.uniform("wavelength", WAVES, low=16.0, high=45.0)
    heading = draws.uniform("heading", WAVES, high=2 * np.pi)
    steepness = draws.uniform("steepness", WAVES, low=0.02, high=0.12) * relief
    k = 2 * np.pi / wavelength
    return {
        "amplitude": steepness / k,
        "kx": k * np.cos(heading),
        "ky": k * np.sin(heading),
        "phase": draws.uniform("phase", WAVES, high=2 * np.pi),
    }


def height_at(
    terrain: dict[str, Float[np.ndarray, "b waves"]], x: Float[np.ndarray, "b n"], y: Float[np.ndarray, "b n"]
) -> Float[np.ndarray, "b n"]:
    """Ground height at level positions, metres."""
    argument = terrain["kx"][:, None] * x[..., None] + terrain["ky"][:, None] * y[..., None]
    waves = terrain["amplitude"][:, None] * np.sin(argument + terrain["phase"][:, None])
    return waves.sum(-1)


def slope(terrain: Terrain, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Derivatives of the height by x and y at x, y [b, views, n]."""
    dx, dy = torch.zeros_like(x), torch.zeros_like(x)
    for wave in range(WAVES):
        a, kx, ky, phase = (_wave(field, wave) for field in _fields(terrain))
        cosine = torch.cos(kx * x + ky * y + phase)
        dx = dx + (a * kx) * cosine
        dy = dy + (a * ky) * cosine
    return dx, dy


def meet_ground(
    terrain: Terrain, origin: Tensor, rays: tuple[Tensor, Tensor, Tensor], nearer: Tensor
) -> Tensor:
    """Ray parameter of the first meeting with the ground, inf where none comes before `nearer` or FAR.

    origin [b, views, 3], rays three [b, views, n], nearer [b, views, n]. The march steps by what the
    steepest slope allows, so that crests are not jumped; the crossing found is refined by the Illinois
    variant of false position.
    """
    dx, dy, dz = rays
    ox, oy, oz = (origin[..., i : i + 1] for i in range(3))
    amplitude = [_wave(terrain.amplitude, wave) for wave in range(WAVES)]
    starts, speeds = [], []
    for wave in range(WAVES):
        _, kx, ky, phase = (_wave(field, wave) for field in _fields(terrain))
        starts.append(kx * ox + ky * oy + phase)
        speeds.append(kx * dx + ky * dy)

    def clearance(t: Tensor) -> Tensor:
        above = torch.addcmul(oz, t, dz)
        for a, start, speed in zip(amplitude, starts, speeds):
            above = torch.addcmul(above, -a, torch.sin(torch.addcmul(start, speed, t)))
        return above

    top = sum(a.abs() for a in amplitude)
    steepest = (terrain.amplitude * torch.hypot(terrain.kx, terrain.ky)).sum(-1)[:, None, None]
    level = torch.sqrt(dx * dx + dy * dy)
    fall = (steepest * level - dz).clamp_min(1e-6)
    far = torch.minimum(nearer, FAR / torch.sqrt(level * level + dz * dz))
    low = ((oz - top) / (-dz).clamp_min(1e-6)).clamp_min(0.0)  # above the highest crest until here
    low = torch.minimum(low, far)
    far = torch.where(dz < 0, torch.minimum(far, (oz + top) / (-dz).clamp_min(1e-6) * 1.0001 + 1e-4), far)
    f_low = clearance(low)
    high, f_high = low, f_low
    found = torch.zeros_like(low, dtype=torch.bool)
    for step in range(_MARCH_STEPS):
        least = torch.maximum(0.02 * low + 0.05, (far - low) * (1.0 / (_MARCH_STEPS - step)) ** 2)
        ahead = torch.minimum(low + torch.maximum(f_low / fall, least), far)
        f_ahead = clearance(ahead)
        crossed = (f_ahead <= 0) & ~found
        high, f_high = torch.where(crossed, ahead, high), torch.where(crossed, f_ahead, f_high)
        found = found | crossed
        low, f_low = torch.where(found, low, ahead), torch.where(found, f_low, f_ahead)
    side = torch.zeros_like(low)
    for _ in range(_REFINE_STEPS):
        middle = (low * f_high - high * f_low) / (f_high - f_low).clamp_max(-1e-12)
        f_middle = clearance(middle)
        above = f_middle > 0
        # Illinois: an end kept twice in a row counts half, so that both ends close in.
        f_high = torch.where(above, torch.where(side > 0, 0.5 * f_high, f_high), f_middle)
        f_low = torch.where(above, f_middle, torch.where(side < 0, 0.5 * f_low, f_low))
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        side = torch.where(above, 1.0, -1.0)
    return torch.where(found, torch.where(side > 0, low, high), torch.inf)


def _fields(terrain: Terrain) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return terrain.amplitude, terrain.kx, terrain.ky, terrain.phase


def _wave(field: Tensor, wave: int) -> Tensor:
    return field[:, wave, None, None]
