"""Colour maps."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8

# Evenly spaced anchors of matplotlib's colour maps of these names (CC0, and Apache-2.0 for turbo).
_ANCHORS = {
    "viridis": "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
    "magma": "000004 140e36 3b0f70 641a80 8c2981 b73779 de4968 f7705c fe9f6d fecf92 fcfdbf",
    "turbo": "30123b 4145ab 4675ed 39a2fc 1bcfd4 24eca6 61fc6c a4fc3b d1e834 f3c63a fe9b2d f36315 d93806",
}


def colour_map(values: Float[np.ndarray, "*shape"], name: str) -> UInt8[np.ndarray, "*shape 3"]:
    """RGB of values in [0, 1] (clipped) by the map "viridis", "magma" or "turbo"."""
    anchors = np.array([list(bytes.fromhex(anchor)) for anchor in _ANCHORS[name].split()], dtype=np.float64)
    position = np.clip(np.nan_to_num(np.asarray(values, dtype=np.float64)), 0.0, 1.0)
    places = np.linspace(0.0, 1.0, len(anchors))
    channels = [np.interp(position, places, anchors[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def by_order(count: int) -> UInt8[np.ndarray, "count 3"]:
    """One colour per view, from blue (first) to red (last)."""
    # The ends of turbo are too dark to tell apart.
    return colour_map(0.08 + 0.84 * np.arange(count) / max(count - 1, 1), "turbo")


def css_colour(rgb: UInt8[np.ndarray, " 3"]) -> str:
    """The colour as "#rrggbb"."""
    return "#" + bytes(rgb.tolist()).hex()
