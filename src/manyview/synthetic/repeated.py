"""Repeated structure: one pattern on every surface of a scene, so that looks alone match wrongly."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from .draws import Draws
from .options import SceneOptions
from .surfaces import COS, DENSITY, SIN, TILE
from .textures import texture_bank


def repeat_pattern(
    draws: Draws, looks: Float[np.ndarray, "looks b faces"], options: SceneOptions, scale: float
) -> Float[np.ndarray, "looks b faces"]:
    """The looks of surfaces.py after a share `options.repeated` of the scenes got one hard tile, of one
    size and one colour, upright on all faces. Draws of its own: scenes without it stay what they are."""
    if options.repeated == 0:
        return looks
    chosen = draws.uniform("repeated") < options.repeated
    bank = texture_bank(options.texture_bank_seed)
    same = looks[:, :, :1].copy()  # colour and shift of the first face
    same[TILE, :, 0] = draws.integers("repeated tile", low=bank.smooth, high=bank.tiles - 1)
    low, high = options.tile_length
    same[DENSITY, :, 0] = 1.0 / (scale * low * (high / low) ** draws.uniform("repeated length"))
    same[COS], same[SIN] = 1.0, 0.0
    return np.where(chosen[None, :, None], same, looks)
