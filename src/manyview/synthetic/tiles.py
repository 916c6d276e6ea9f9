"""Drawing periodic texture tiles: numpy [tiles, edge, edge, 3] of any mean and scale."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from .draws import Draws

Tiles = Float[np.ndarray, "tiles edge edge 3"]


def smooth_tiles(draws: Draws, edge: int) -> Tiles:
    """Colour fields of one to three waves across the tile: no place of a wall looks like another."""
    return _spectral(draws, "smooth", edge, slope=1.2, lowest=0.9, highest=3.3)


def noise_tiles(draws: Draws, edge: int) -> Tiles:
    """Noise of many octaves, from cloudy to grainy."""
    return _spectral(draws, "noise", edge, slope=1.6, lowest=0.9, highest=edge / 2)


def checker_tiles(draws: Draws, edge: int) -> Tiles:
    """Chequers of two colours, a little worn."""
    x, y, cells = *_grid(edge), 2 * draws.integers("cells", 1, 1, low=1, high=4)
    parity = (np.floor(x * cells) + np.floor(y * cells)) % 2
    return _palette(draws, parity) + 0.25 * noise_tiles(draws, edge)


def brick_tiles(draws: Draws, edge: int) -> Tiles:
    """Bricks with mortar, each brick of its own shade."""
    x, y = _grid(edge)
    rows = 2 * draws.integers("rows", 1, 1, low=2, high=4)
    columns = draws.integers("columns", 1, 1, low=2, high=4)
    row = np.floor(y * rows)
    along = (x * columns + 0.5 * (row % 2)) % columns
    joint = draws.uniform("joint", 1, 1, low=0.08, high=0.16)
    stone = ((along % 1) > joint * 0.6) & ((y * rows) % 1 > joint)
    shade = _lookup(draws.normal("shade", 8 * 4), (row % 8 * 4 + np.floor(along)).astype(np.int64))
    return _palette(draws, stone) + 0.35 * (shade * stone)[..., None] + 0.15 * noise_tiles(draws, edge)


def stripe_tiles(draws: Draws, edge: int) -> Tiles:
    """Straight or wavy stripes in one of the directions that close up."""
    x, y = _grid(edge)
    fx = draws.integers("fx", 1, 1, low=0, high=5)
    fy = draws.integers("fy", 1, 1, low=-5, high=5)
    fx = np.where((fx == 0) & (fy == 0), 3, fx)
    wave = draws.uniform("wave", 1, 1, high=0.12) * np.sin(2 * np.pi * (x + y + draws.uniform("shift", 1, 1)))
    value = np.sin(2 * np.pi * (fx * x + fy * y + wave * 3)) * draws.uniform(
        "sharp", 1, 1, low=1.0, high=12.0
    )
    return _palette(draws, 0.5 + 0.5 * np.tanh(value)) + 0.2 * noise_tiles(draws, edge)


def blob_tiles(draws: Draws, edge: int) -> Tiles:
    """Patches with soft or hard edges, as on stone or camouflage."""
    field = _spectral(draws, "blob", edge, slope=0.8, lowest=1.5, highest=6.0)
    sharp = draws.uniform("sharp", 1, 1, low=1.5, high=8.0)
    first, second = (0.5 + 0.5 * np.tanh(sharp * field[..., i]) for i in range(2))
    return _palette(draws, first) + _palette(draws, second, "second") + 0.15 * noise_tiles(draws, edge)


def cell_tiles(draws: Draws, edge: int) -> Tiles:
    """A board of rectangles, each of its own colour, as tiles or a quilt."""
    x, y = _grid(edge)
    across = draws.integers("across", 1, 1, low=3, high=8)
    down = draws.integers("down", 1, 1, low=3, high=8)
    cell = (np.floor(y * down) * 8 + np.floor(x * across)).astype(np.int64)
    colours = draws.normal("colours", 64, 3)
    board = np.stack([_lookup(colours[..., i], cell) for i in range(3)], -1)
    seam = ((x * across) % 1 < 0.1) | ((y * down) % 1 < 0.1)
    dark = np.where(draws.uniform("seam", 1, 1) < 0.5, -1.2, 0.0) * seam
    return board + dark[..., None] + 0.15 * noise_tiles(draws, edge)


def voronoi_tiles(draws: Draws, edge: int) -> Tiles:
    """Cells around scattered points, with joints, as paving or cracked earth."""
    x, y = _grid(edge)
    points = 24
    count = draws.integers("count", 1, 1, 1, low=8, high=points)
    dx = x[..., None] - draws.uniform("px", 1, 1, points)
    dy = y[..., None] - draws.uniform("py", 1, 1, points)
    distance = np.hypot(dx - np.round(dx), dy - np.round(dy)) + 10.0 * (np.arange(points) >= count)
    near = np.sort(distance, -1)[..., :2]
    colours = draws.normal("colours", points, 3)
    nearest = distance.argmin(-1)
    board = np.stack([_lookup(colours[..., i], nearest) for i in range(3)], -1)
    joint = np.clip((near[..., 1] - near[..., 0]) / 0.03, 0.0, 1.0) - 1.0
    return board + joint[..., None] + 0.15 * noise_tiles(draws, edge)


def leaf_tiles(draws: Draws, edge: int) -> Tiles:
    """Dense spots of random size and shade, as foliage, gravel or speckle."""
    x, y = _grid(edge)
    image = np.zeros((len(draws), edge, edge, 3))
    places, shades = draws.uniform("places", 90, 3), draws.normal("shades", 90, 3)
    for spot in range(90):
        px, py, size = (places[:, spot, i, None, None] for i in range(3))
        dx, dy = x - px, y - py
        inside = np.hypot(dx - np.round(dx), dy - np.round(dy)) < 0.02 + 0.06 * size
        image = np.where(inside[..., None], shades[:, spot, None, None], image)
    return image


HARD_TILES = (
    noise_tiles,
    checker_tiles,
    brick_tiles,
    stripe_tiles,
    blob_tiles,
    cell_tiles,
    voronoi_tiles,
    leaf_tiles,
)


def _grid(edge: int) -> tuple[np.ndarray, np.ndarray]:
    centres = (np.arange(edge) + 0.5) / edge
    return np.broadcast_to(centres, (1, edge, edge)), np.broadcast_to(centres[:, None], (1, edge, edge))


def _spectral(draws: Draws, name: str, edge: int, slope: float, lowest: float, highest: float) -> Tiles:
    """Gaussian noise whose amplitude falls as frequency ** -slope between two frequencies, waves a tile."""
    white = np.moveaxis(draws.normal(name, edge, edge, 3), -1, 1)
    frequency = np.hypot(np.fft.fftfreq(edge)[:, None], np.fft.rfftfreq(edge)[None]) * edge
    gain = np.where((frequency >= lowest) & (frequency <= highest), np.maximum(frequency, 0.5) ** -slope, 0.0)
    field = np.fft.irfft2(np.fft.rfft2(white) * gain, s=(edge, edge))
    field = field / field.std((2, 3), keepdims=True)
    return np.moveaxis(field, 1, -1)


def _palette(draws: Draws, weight: np.ndarray, name: str = "palette") -> Tiles:
    """Blend between two colours of each tile by weight [tiles, edge, edge]."""
    step = draws.normal(name, 1, 1, 3)
    step = step / (np.abs(step).mean(-1, keepdims=True) + 0.2)
    return (2.0 * weight[..., None] - 1.0) * step


def _lookup(table: np.ndarray, index: np.ndarray) -> np.ndarray:
    """table [tiles, n] at index [tiles or 1, edge, edge] -> [tiles, edge, edge]."""
    index = np.broadcast_to(index, (len(table), *index.shape[1:]))
    return np.take_along_axis(table, index.reshape(len(table), -1), 1).reshape(index.shape)
