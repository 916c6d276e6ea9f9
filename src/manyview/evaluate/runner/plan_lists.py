"""Plans as a user lists them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def split_plans(texts: Sequence[str]) -> tuple[str, ...]:
    """Plans given one by one or joined by commas, each once.

    A part begins a new plan unless it is an option (stride=2x2) or goes on with a range of layers (4-5:dense
    after 0-3:frame).
    """
    plans: list[str] = []
    for text in texts:
        joined = ""
        for part in text.split(","):
            head = part.strip().partition(":")[0]
            goes_on = "=" in head or (re.match(r"\d", head) and re.match(r"\d", joined))
            if joined and goes_on:
                joined += "," + part.strip()
                continue
            plans += [joined] if joined else []
            joined = part.strip()
        plans += [joined] if joined else []
    return tuple(dict.fromkeys(plans))
