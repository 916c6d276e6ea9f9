"""Which few of many views, images or frames stand for all of them."""

from __future__ import annotations

import numpy as np


def evenly_spread(total: int, at_most: int) -> list[int]:
    """At most `at_most` indices from 0 to `total` - 1, evenly spread, first and last included."""
    return np.linspace(0, total - 1, min(total, at_most)).round().astype(int).tolist()
