"""A bank of procedurally drawn texture tiles with mip levels, and how surfaces look them up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from ..errors import UsageError
from .draws import Draws
from .tiles import HARD_TILES, smooth_tiles

RESOLUTION = 64  # texels along a tile's edge at the finest level, a power of two
PICTURE_RESOLUTION = 256  # the same of a picture

_SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class TextureBank:
    """Tiles with mean 0 and deviation 1 in three channels, periodic; the first `smooth` are the smooth ones.

    `texels` float32 [tiles * texels a tile, 4] holds each tile's mip levels one after the other, finest
    first, rows from the top; the fourth channel is padding. `resolution` is the edge of the finest level.
    `pictures` are a bank of their own, RGB in [0, 1]; their numbers follow those of the drawn tiles, and
    every second repetition is `mirrored`.
    """

    texels: Tensor
    smooth: int
    tiles: int
    resolution: int = RESOLUTION
    mirrored: bool = False
    pictures: TextureBank | None = None


@lru_cache(maxsize=8)
def texture_bank(seed: int, device: str = "cpu", pictures: str | None = None) -> TextureBank:
    """The bank of this seed, drawn once: 48 smooth tiles and 20 of each of the hard kinds.

    `pictures` is a folder of pictures that come with it. Raises UsageError if it holds none.
    """
    if pictures is not None:
        return replace(texture_bank(seed, device), pictures=_picture_bank(pictures, device))
    if device != "cpu":
        bank = texture_bank(seed)
        return replace(bank, texels=bank.texels.to(device))
    smooth = smooth_tiles(Draws([seed * 1000 + i for i in range(48)]), RESOLUTION)
    hard = [
        tiles(Draws([seed * 1000 + 100 * (kind + 1) + i for i in range(20)]), RESOLUTION)
        for kind, tiles in enumerate(HARD_TILES)
    ]
    every = np.concatenate([smooth, *hard])
    every = every - every.mean((1, 2), keepdims=True)
    every = every / (every.std((1, 2, 3), keepdims=True) + 1e-6)
    return TextureBank(_mip_levels(every), len(smooth), len(every))


def picture_files(folder: str) -> list[Path]:
    """The pictures in a folder and its folders, sorted. Raises UsageError if there are none."""
    if not folder:
        raise UsageError("Scene option picture_share needs pictures, a folder of them (train: --textures).")
    paths = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in _SUFFIXES)
    if not paths:
        raise UsageError(f"Scene option pictures: {folder} holds no picture ({', '.join(_SUFFIXES)}).")
    return paths


@lru_cache(maxsize=4)
def _picture_bank(folder: str, device: str) -> TextureBank:
    paths = picture_files(folder)
    size = (PICTURE_RESOLUTION, PICTURE_RESOLUTION)
    squares = np.empty((len(paths), *size, 3), np.float32)
    for index, path in enumerate(paths):
        try:
            with Image.open(path) as image:
                squares[index] = np.asarray(ImageOps.fit(image.convert("RGB"), size)) / 255
        except (OSError, SyntaxError, ValueError) as error:
            raise UsageError(
                f"Scene option pictures: {path} cannot be read ({error}); replace or remove it."
            ) from error
    texels = _mip_levels(squares).to(device)
    return TextureBank(texels, 0, len(paths), PICTURE_RESOLUTION, mirrored=True)


def _mip_levels(tiles: Float[np.ndarray, "tiles edge edge 3"]) -> Float[Tensor, "texels 4"]:
    """Each tile's levels down to one texel, one after the other."""
    level, levels = tiles, []
    while True:
        levels.append(level.reshape(len(tiles), -1, 3))
        if level.shape[1] == 1:
            break
        level = 0.25 * (level[:, ::2, ::2] + level[:, 1::2, ::2] + level[:, ::2, 1::2] + level[:, 1::2, 1::2])
    texels = np.concatenate(levels, 1)
    texels = np.pad(texels, ((0, 0), (0, 0), (0, 1))).reshape(-1, 4)
    return torch.from_numpy(texels.astype(np.float32))


def sample(bank: TextureBank, tile: Tensor, u: Tensor, v: Tensor, footprint: Tensor) -> Float[Tensor, "n 3"]:
    """Colour of each tile at (u, v), all [n]; one tile is one unit long and repeats.

    `footprint` is the edge of a pixel on the surface, in tiles: it chooses between the mip levels,
    linearly between the two nearest, bilinearly within each.
    """
    most = bank.resolution.bit_length() - 1.001
    level = torch.log2(footprint.clamp_min(1e-6) * bank.resolution).clamp(0.0, most)
    fine = level.floor()
    blend = (level - fine)[:, None]
    fine = fine.to(torch.int32)
    first = tile.to(torch.int32) * (len(bank.texels) // bank.tiles)
    return torch.lerp(_bilinear(bank, first, u, v, fine), _bilinear(bank, first, u, v, fine + 1), blend)[
        :, :3
    ]


def _bilinear(bank: TextureBank, first: Tensor, u: Tensor, v: Tensor, level: Tensor) -> Tensor:
    edge = bank.resolution >> level
    # Texels of the levels before this one: the geometric sum 4/3 (R^2 - edge^2).
    first = first + (4 * (bank.resolution * bank.resolution - edge * edge)).div(3, rounding_mode="floor")
    x, y = u * edge - 0.5, v * edge - 0.5
    left, above = x.floor(), y.floor()
    across, down = (x - left)[:, None], (y - above)[:, None]
    mask = edge - 1
    x0 = left.to(torch.int32)
    y0 = above.to(torch.int32)
    x1, y1 = _wrapped(x0 + 1, mask, bank.mirrored), _wrapped(y0 + 1, mask, bank.mirrored) * edge + first
    x0, y0 = _wrapped(x0, mask, bank.mirrored), _wrapped(y0, mask, bank.mirrored) * edge + first
    top = torch.lerp(bank.texels.index_select(0, y0 + x0), bank.texels.index_select(0, y0 + x1), across)
    bottom = torch.lerp(bank.texels.index_select(0, y1 + x0), bank.texels.index_select(0, y1 + x1), across)
    return torch.lerp(top, bottom, down)


def _wrapped(texel: Tensor, mask: Tensor, mirrored: bool) -> Tensor:
    """Texel numbers within the edge, which is `mask` + 1, of a tile that repeats."""
    if not mirrored:
        return texel & mask
    texel = texel & (2 * mask + 1)
    return torch.minimum(texel, 2 * mask + 1 - texel)
