"""Objects that stand in relation to each other: a facade, a street, a table, a statue."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from .draws import Draws

Ground = Callable[[Float[np.ndarray, "b n 2"]], Float[np.ndarray, "b n"]]
_RELIEFS, _COLUMNS = 14, 6
_HOUSES, _CARS, _POLES = 10, 5, 8
_THINGS, _CUPS = 10, 5
_BLOCKS, _DRUMS = 9, 4


@dataclass(frozen=True)
class Arrangement:
    """Slots of the first `boxes` boxes and then of upright cylinders; see `Objects`."""

    boxes: int
    centre: Float[np.ndarray, "b slots 3"]
    half: Float[np.ndarray, "b slots 3"]
    yaw: Float[np.ndarray, "b slots"]

    @property
    def cylinders(self) -> int:
        """Number of cylinders."""
        return self.half.shape[1] - self.boxes


def facade(draws: Draws, radius: Float[np.ndarray, " b"], ground: Ground) -> Arrangement:
    """A wall behind the focus, facing the middle of the cameras' path, with reliefs and columns before it.

    Reliefs are pilasters, ledges and blocks of 3 to 60 cm depth; a quarter stand free on the ground.
    """
    angle = draws.uniform("start", 1, high=2 * np.pi)
    wall_half = np.stack(
        [
            np.full(len(draws), 3.0),
            draws.uniform("wall width", low=0.5, high=1.4) * radius,
            draws.uniform("wall height", low=2.5, high=7.0),
        ],
        -1,
    )
    front = draws.uniform("wall place", 1, low=-1.5, high=0.2)  # along the way to the cameras
    low = ground(np.zeros((len(draws), 1, 2)))
    unit = draws.uniform("reliefs", _RELIEFS, 6)
    kind = unit[..., 0]
    pilaster, ledge, free = kind < 0.3, (kind >= 0.3) & (kind < 0.5), kind >= 0.75
    width, height = wall_half[:, None, 1], wall_half[:, None, 2]
    depth = 0.03 + 0.57 * unit[..., 1] ** 2
    kinds, size, tall = [pilaster, ledge, free], unit[..., 2], unit[..., 3]
    across = np.select(kinds, [0.08 + 0.3 * size, width, 0.15 + 0.6 * size], 0.15 + 0.8 * size)
    upright = np.select(kinds, [height, 0.05 + 0.2 * tall, 0.1 + 0.7 * tall], 0.2 + 1.0 * tall)
    along = np.where(ledge, 0.0, (2 * unit[..., 4] - 1) * (width - across).clip(min=0.0))
    rise = np.where(pilaster, height, upright + unit[..., 5] * np.minimum(2 * height, 5.0))
    out = front + np.where(free, 0.3 + 3.5 * unit[..., 1], 0.0)
    half = np.stack([np.where(free, 0.1 + 0.5 * unit[..., 5], depth), across, upright], -1)
    rise = np.where(free, upright, rise)

    poles = draws.uniform("columns", _COLUMNS, 4)
    thin = poles[..., 3] < 0.5
    thick = np.where(thin, 0.02 + 0.04 * poles[..., 0], 0.1 + 0.3 * poles[..., 0])
    tall = 0.5 + 2.0 * poles[..., 1]
    half = np.concatenate([wall_half[:, None], half, np.stack([thick, thick, tall], -1)], 1)
    along = np.concatenate([np.zeros_like(front), along, (2 * poles[..., 2] - 1) * width], 1)
    out = np.concatenate([front - wall_half[:, :1], out, front + 0.3 + 2.0 * poles[..., 3]], 1)
    rise = np.concatenate([height - 0.3, rise - 0.1, tall - 0.1], 1)
    return _placed(1 + _RELIEFS, angle, out, along, rise + low, half)


def street(draws: Draws, radius: Float[np.ndarray, " b"], ground: Ground) -> Arrangement:
    """Houses on both sides of the way through the focus, cars and poles along it."""
    angle = draws.uniform("start", 1, high=2 * np.pi)
    side = np.where(np.arange(_HOUSES) % 2, 1.0, -1.0)
    unit = draws.uniform("houses", _HOUSES, 5)
    half = np.stack([1.5 + 3.0 * unit[..., 0], 1.5 + 2.5 * unit[..., 1], 2.0 + 4.0 * unit[..., 2]], -1)
    place = np.arange(_HOUSES) // 2 - 0.7 + 0.3 * unit[..., 3]
    out = -place * 8.0  # ahead is away from the cameras' start
    along = side * (4.0 + 3.0 * draws.uniform("street", 1) + 2.0 * unit[..., 4] + half[..., 1])

    cars = draws.uniform("cars", _CARS, 4)
    car_half = np.stack([1.6 + 0.6 * cars[..., 0], 0.8 + 0.1 * cars[..., 0], 0.5 + 0.5 * cars[..., 1]], -1)
    poles = draws.uniform("poles", _POLES, 4)
    thick = 0.04 + 0.12 * poles[..., 0] ** 2
    pole_half = np.stack([thick, thick, 1.0 + 2.0 * poles[..., 1]], -1)
    half = np.concatenate([half, car_half, pole_half], 1)
    kerb = 2.4 + 1.4 * np.concatenate([cars[..., 2], poles[..., 2]], 1)
    kerb = kerb * np.where(np.arange(_CARS + _POLES) % 2, 1.0, -1.0)
    out = np.concatenate([out, 8.0 - 30.0 * cars[..., 3], 8.0 - 30.0 * poles[..., 3]], 1)
    along = np.concatenate([along, kerb], 1)
    level = _level(angle, out, along)
    return _placed(_HOUSES + _CARS, angle, out, along, ground(level) + half[..., 2] - 0.2, half)


def table(draws: Draws, focus: Float[np.ndarray, "b 3"]) -> Arrangement:
    """A table near the focus, as a board on legs or a block, with things lying and standing on it."""
    angle = draws.uniform("table turn", 1, high=2 * np.pi)
    size = draws.uniform("table", 4)
    block = size[:, 3] < 0.4
    top = 0.5 + 0.4 * size[:, 2]
    board = np.stack([0.35 + 0.3 * size[:, 0], 0.5 + 0.5 * size[:, 1], np.where(block, 0.5 * top, 0.02)], -1)
    unit = draws.uniform("things", _THINGS, 6)
    small = np.stack([0.02 + 0.15 * unit[..., i] ** 1.5 for i in (0, 1, 2)], -1)
    cups = draws.uniform("cups", _CUPS, 5)
    thick = 0.01 + 0.07 * cups[..., 0] ** 1.5
    round_half = np.stack([thick, thick, 0.03 + 0.17 * cups[..., 1]], -1)
    legs = np.repeat(np.stack([np.full(len(draws), 0.02)] * 2 + [0.5 * top - 0.02], -1)[:, None], 4, 1)
    legs = np.where(block[:, None, None], -1.0, legs)
    half = np.concatenate([board[:, None], small, round_half, legs], 1)
    corner = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * 0.93
    where = np.concatenate([unit[..., 3:5], cups[..., 2:4]], 1) * 1.8 - 0.9
    where = np.concatenate(
        [np.zeros((len(draws), 1, 2)), where, np.broadcast_to(corner, (len(draws), 4, 2))], 1
    )
    out, along = where[..., 0] * board[:, None, 0], where[..., 1] * board[:, None, 1]
    upper = top[:, None] + half[..., 2]
    upper[:, 0] = top - board[:, 2]
    upper[:, -4:] = 0.5 * top[:, None]
    found = _placed(1 + _THINGS, angle, out, along, upper, half)
    found.centre[..., :2] += focus[:, None, :2]
    found.yaw[:, 1 : 1 + _THINGS] += 2 * np.pi * unit[..., 5]
    return found


def statue(draws: Draws, radius: Float[np.ndarray, " b"], ground: Ground) -> Arrangement:
    """Blocks and round pieces on a pedestal at the focus, turned this way and that, narrower at the top."""
    size = draws.uniform("statue", 3)
    wide = radius * (0.07 + 0.2 * size[:, 0])
    tall = radius * (0.2 + 0.45 * size[:, 1])
    low = ground(np.zeros((len(draws), 1, 2)))[:, 0] - 0.2
    foot = 0.5 * tall * (0.1 + 0.5 * size[:, 2])
    unit = draws.uniform("blocks", _BLOCKS + _DRUMS, 7)
    rise = 2 * foot[:, None] + (tall - 2 * foot)[:, None] * unit[..., 0]
    narrow = wide[:, None] * (1.0 - 0.5 * unit[..., 0])
    half = narrow[..., None] * (0.15 + 0.55 * unit[..., 1:4])
    half[:, _BLOCKS:, 1] = half[:, _BLOCKS:, 0]
    place = narrow[..., None] * (unit[..., 4:6] - 0.5)
    pedestal = np.stack([wide, wide * (0.7 + 0.3 * size[:, 2]), foot], -1)
    half = np.concatenate([pedestal[:, None], half], 1)
    rise = np.concatenate([foot[:, None], rise], 1) + low[:, None]
    place = np.concatenate([np.zeros((len(draws), 1, 2)), place], 1)
    angle = draws.uniform("statue turn", 1, high=2 * np.pi)
    found = _placed(1 + _BLOCKS, angle, place[..., 0], place[..., 1], rise, half)
    found.yaw[:, 1:] += 2 * np.pi * unit[..., 6]
    return found


def _level(angle: np.ndarray, out: np.ndarray, along: np.ndarray) -> Float[np.ndarray, "b n 2"]:
    """Level places [b, n, 2] `out` in the direction of `angle` and `along` across it."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * out - sin * along, sin * out + cos * along], -1)


def _placed(
    boxes: int, angle: np.ndarray, out: np.ndarray, along: np.ndarray, rise: np.ndarray, half: np.ndarray
) -> Arrangement:
    centre = np.concatenate([_level(angle, out, along), rise[..., None]], -1)
    return Arrangement(boxes, centre, half, np.broadcast_to(angle, rise.shape).copy())
