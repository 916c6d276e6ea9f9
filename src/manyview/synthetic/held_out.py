"""Scenes and textures that training never draws: for evaluation and the demo."""

from __future__ import annotations

HELD_OUT_SEED = 1 << 40
"""Scene seeds from here on are never drawn for training."""

HELD_OUT_BANK = 1_000_003
"""Texture bank that training never uses."""
