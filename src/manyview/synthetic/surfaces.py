"""How surfaces look: each face of each object has a tile, its placement, and a colour transform."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from .draws import Draws
from .options import SceneOptions
from .textures import texture_bank

# Rows of the table of appearance: tile, tiles a metre, cos and sin of the tile's turn, its offset, then the
# colour transform: base colour and 3x3 mix, row by row, and the strength of the highlight.
TILE, DENSITY, COS, SIN, SHIFT_U, SHIFT_V, BASE, MIX, GLOSS, ROWS = 0, 1, 2, 3, 4, 5, 6, 9, 18, 19
FACES = 6


def draw_surfaces(
    draws: Draws, half: Float[np.ndarray, "b slots 3"], options: SceneOptions, scale: float
) -> Float[np.ndarray, "appearance b faces"]:
    """The appearance of the six faces of every slot. `scale` multiplies the lengths of hard tiles."""
    bank = texture_bank(options.texture_bank_seed)
    slots = half.shape[1]
    shape = (slots, FACES)
    hard = draws.uniform("hard", *shape) < options.texture_hardness
    smooth_tile = draws.integers("smooth tile", *shape, low=0, high=bank.smooth - 1)
    hard_tile = draws.integers("hard tile", *shape, low=bank.smooth, high=bank.tiles - 1)
    # A smooth tile is larger than the surface it covers, so that nothing repeats; the ground has no end.
    extent = np.minimum(2.0 * np.abs(half).max(-1), 36.0)[..., None]
    smooth_length = extent * draws.uniform("smooth length", *shape, low=1.1, high=1.7)
    low, high = options.tile_length
    hard_length = scale * low * (high / low) ** draws.uniform("hard length", *shape)
    turn = draws.uniform("tile turn", *shape, high=2 * np.pi)
    turn = np.where(hard, np.round(turn / (np.pi / 2)) * (np.pi / 2), turn)

    low, high = options.texture_contrast
    contrast = draws.uniform("contrast", *shape, low=low, high=high)
    mix = draws.normal("mix", *shape, 3, 3)
    mix = mix / np.linalg.norm(mix, axis=-1, keepdims=True) * (0.2 * contrast)[..., None, None]
    base = draws.uniform("base", *shape, 3, low=0.25, high=0.75)
    low, high = options.saturation
    grey = 1.0 - draws.uniform("saturation", *shape, 1, low=low, high=high)
    base = base + grey * (base.mean(-1, keepdims=True) - base)
    # The mean of three channels varies less than one; 1.6 keeps the contrast of greyish surfaces.
    mix = mix + grey[..., None] * (1.6 * mix.mean(-2, keepdims=True) - mix)

    appearance = np.empty((ROWS, len(draws), slots, FACES))
    appearance[TILE] = np.where(hard, hard_tile, smooth_tile)
    appearance[DENSITY] = 1.0 / np.where(hard, hard_length, smooth_length)
    appearance[COS], appearance[SIN] = np.cos(turn), np.sin(turn)
    appearance[SHIFT_U] = draws.uniform("shift u", *shape)
    appearance[SHIFT_V] = draws.uniform("shift v", *shape)
    appearance[BASE:MIX] = np.moveaxis(base, -1, 0)
    appearance[MIX:GLOSS] = np.moveaxis(mix.reshape(*mix.shape[:3], 9), -1, 0)
    shines = draws.uniform("gloss", *shape) < options.gloss
    appearance[GLOSS] = np.where(shines, draws.uniform("gloss strength", *shape, low=0.1, high=0.6), 0.0)
    flat = _repeated(draws, appearance.reshape(ROWS, len(draws), slots * FACES), options, scale)
    if options.picture_share > 0:
        flat = _with_pictures(draws, flat, extent, options, scale)
    return flat


def _with_pictures(
    draws: Draws,
    flat: Float[np.ndarray, "appearance b faces"],
    extent: Float[np.ndarray, "b slots 1"],
    options: SceneOptions,
    scale: float,
) -> Float[np.ndarray, "appearance b faces"]:
    """Give a share of the surfaces a picture: one that covers it, or a small one that repeats."""
    bank = texture_bank(options.texture_bank_seed, pictures=options.pictures)
    assert bank.pictures is not None
    appearance = flat.reshape(ROWS, len(draws), -1, FACES).copy()
    shape = appearance.shape[2:]
    number = draws.integers("picture", *shape, low=bank.tiles, high=bank.tiles + bank.pictures.tiles - 1)
    # Most objects are of one material; walls, floor and ceiling of a room are not.
    same = draws.uniform("one picture", shape[0], 1) < 0.7
    same[:, 0] = False
    number = np.where(same, number[..., :1], number)
    chosen = draws.uniform("has picture", *shape) < options.picture_share
    chosen = np.where(same, chosen[..., :1], chosen)
    low, high = options.tile_length
    small = scale * low * (high / low) ** draws.uniform("picture length", *shape)
    cover = np.minimum(extent, 12.0) * draws.uniform("picture cover", *shape, low=0.4, high=1.2)
    length = np.where(draws.uniform("picture covers", *shape) < 0.75, cover, small)
    # Rows of pictures run down, the height runs up: half a turn makes them stand upright.
    turned = draws.uniform("picture turned", *shape) < 0.2
    turn = np.pi + np.where(turned, draws.uniform("picture turn", *shape, high=2 * np.pi), 0.0)
    gain = draws.uniform("picture gain", *shape, low=0.7, high=1.25)[..., None]
    tint = gain * np.exp(0.1 * draws.normal("picture tint", *shape, 3))
    grey = draws.uniform("picture grey", *shape, 1, high=0.3)
    eye = np.eye(3)
    mix = tint[..., :, None] * ((1 - grey[..., None]) * eye + grey[..., None] / 3)
    changed = {
        TILE: number,
        DENSITY: 1.0 / length,
        COS: np.cos(turn),
        SIN: np.sin(turn),
        **{BASE + i: np.zeros(1) for i in range(3)},
        **{MIX + i: mix.reshape(*mix.shape[:3], 9)[..., i] for i in range(9)},
    }
    for row, value in changed.items():
        appearance[row] = np.where(chosen, value, appearance[row])
    return appearance.reshape(flat.shape)


def _repeated(
    draws: Draws, appearance: Float[np.ndarray, "appearance b faces"], options: SceneOptions, scale: float
) -> Float[np.ndarray, "appearance b faces"]:
    """A share `options.repeated` of the scenes gets one hard tile of one size and colour on all faces.

    Appearance alone then matches wrongly. Its draws are separate: other scenes stay what they are.
    """
    if options.repeated == 0:
        return appearance
    chosen = draws.uniform("repeated") < options.repeated
    bank = texture_bank(options.texture_bank_seed)
    same = appearance[:, :, :1].copy()  # colour and shift of the first face
    same[TILE, :, 0] = draws.integers("repeated tile", low=bank.smooth, high=bank.tiles - 1)
    low, high = options.tile_length
    same[DENSITY, :, 0] = 1.0 / (scale * low * (high / low) ** draws.uniform("repeated length"))
    same[COS], same[SIN] = 1.0, 0.0
    return np.where(chosen[None, :, None], same, appearance)
