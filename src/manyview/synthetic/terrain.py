"""Ground of outdoor scenes: a height field made of waves, and its exact intersection with rays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .draws import Draws

WAVES = 3
FAR = 90.0  # metres; rays that hit no ground before this see the sky
# Marches of (steps, whether it must arrive): most rays are decided in the first, few need the last.
_MARCH = ((8, False), (10, False), (30, True))
_REFINE_STEPS = 7


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
        a, kx, ky, phase = _wave(terrain, wave)
        cosine = torch.cos(kx * x + ky * y + phase)
        dx = dx + (a * kx) * cosine
        dy = dy + (a * ky) * cosine
    return dx, dy


def intersect_ground(
    terrain: Terrain, origin: Tensor, rays: tuple[Tensor, Tensor, Tensor], nearer: Tensor
) -> Float[Tensor, "b views n"]:
    """Ray parameter of the first intersection with the ground, inf where none comes before `nearer` or FAR.

    origin [b, views, 3], rays three [b, views, n], nearer [b, views, n]. The march steps by what the
    steepest slope allows, so that crests are not jumped; the crossing found is refined by the Illinois
    variant of false position. Only rays still undecided are carried along.
    """
    dx, dy, dz = rays
    ox, oy, oz = (origin[..., i : i + 1] for i in range(3))
    waves = [_wave(terrain, i) for i in range(WAVES)]
    top = sum(amplitude for amplitude, *_ in waves)
    steepest = (terrain.amplitude * torch.hypot(terrain.kx, terrain.ky)).sum(-1)[:, None, None]
    level_square = dx * dx + dy * dy
    fall = steepest * level_square.sqrt() - dz  # the clearance shrinks no faster than this
    inverse = (-dz).clamp_min(1e-6).reciprocal()
    far = torch.minimum(nearer, FAR * torch.rsqrt(level_square + dz * dz))
    far = torch.where(dz < 0, torch.minimum(far, (oz + top) * inverse * 1.0001 + 1e-4), far)
    low = ((oz - top) * inverse).clamp_min(0.0)  # above the highest crest until here

    distance = torch.full_like(dz, torch.inf).flatten()
    index = ((low < far) & (fall > 1e-6)).flatten().nonzero().squeeze(1)

    def chosen(value: Tensor) -> Tensor:
        return value.expand(dz.shape).reshape(-1).index_select(0, index)

    lines = _Lines(
        chosen(oz),
        chosen(dz),
        [
            (chosen(a), chosen(kx * ox + ky * oy + phase), chosen(kx * dx + ky * dy))
            for a, kx, ky, phase in waves
        ],
    )
    low, far, fall = chosen(low), chosen(far), chosen(fall)
    for steps, final in _MARCH:
        crossed, ends = _march(lines, low, far, fall, steps, final)
        found = crossed.nonzero().squeeze(1)
        met = _refine(lines.at(found), *(end.index_select(0, found) for end in ends))
        distance.index_copy_(0, index.index_select(0, found), met)
        rest = (~crossed & (ends[0] < far)).nonzero().squeeze(1)
        index, lines = index.index_select(0, rest), lines.at(rest)
        low, far, fall = (value.index_select(0, rest) for value in (ends[0], far, fall))
    return distance.view(dz.shape)


@dataclass(frozen=True)
class _Lines:
    """Rays over the ground, all [n]: height, rise, and each wave's amplitude, phase and pace along."""

    height: Tensor
    rise: Tensor
    waves: list[tuple[Tensor, ...]]

    def clearance(self, t: Tensor) -> Tensor:
        """Height above the ground at ray parameter t."""
        above = torch.addcmul(self.height, t, self.rise)
        for amplitude, phase, pace in self.waves:
            above = torch.addcmul(above, amplitude, torch.sin(torch.addcmul(phase, pace, t)), value=-1)
        return above

    def at(self, index: Tensor) -> _Lines:
        """Some of the rays."""
        waves = [tuple(part.index_select(0, index) for part in wave) for wave in self.waves]
        return _Lines(self.height.index_select(0, index), self.rise.index_select(0, index), waves)


def _march(
    lines: _Lines, low: Tensor, far: Tensor, fall: Tensor, steps: int, final: bool
) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Advance from `low` until the ground is crossed or `far` is reached; the final march always arrives.

    Returns where a crossing was found, and (low, f_low, high, f_high), f being the clearance there.
    """
    f_low = lines.clearance(low)
    high, f_high = low, f_low
    found = f_low <= 0
    for step in range(steps):
        least = 0.02 * low + 0.05
        if final:
            least = torch.maximum(least, (far - low) * (1.0 / (steps - step)) ** 2)
        ahead = torch.minimum(low + torch.maximum(f_low / fall, least), far)
        f_ahead = lines.clearance(ahead)
        crossed = (f_ahead <= 0) & ~found
        high, f_high = torch.where(crossed, ahead, high), torch.where(crossed, f_ahead, f_high)
        found = found | crossed
        low, f_low = torch.where(found, low, ahead), torch.where(found, f_low, f_ahead)
    return found, (low, f_low, high, f_high)


def _refine(lines: _Lines, low: Tensor, f_low: Tensor, high: Tensor, f_high: Tensor) -> Tensor:
    """The crossing between low (above the ground) and high (below it), by Illinois steps."""
    side = torch.zeros_like(low)
    middle = low
    for _ in range(_REFINE_STEPS):
        middle = (low * f_high - high * f_low) / (f_high - f_low).clamp_max(-1e-12)
        f_middle = lines.clearance(middle)
        above = f_middle > 0
        # An end kept twice in a row counts half, so that both ends close in.
        f_high = torch.where(above, torch.where(side > 0, 0.5 * f_high, f_high), f_middle)
        f_low = torch.where(above, f_middle, torch.where(side < 0, 0.5 * f_low, f_low))
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        side = torch.where(above, 1.0, -1.0)
    return middle


def _wave(terrain: Terrain, wave: int) -> tuple[Tensor, ...]:
    """Amplitude, kx, ky and phase of a wave, each [b, 1, 1]."""
    return tuple(field[:, wave, None, None] for field in vars(terrain).values())
