"""What training never draws, so that evaluation and the demo meet it for the first time."""

from __future__ import annotations

HELD_OUT_SEED = 1 << 40
"""Scene seeds from here on are never drawn for training."""

HELD_OUT_BANK = 1_000_003
"""Texture bank that training never uses."""
