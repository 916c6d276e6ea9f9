"""Every published way to make global attention cheap that is here, by the name a plan spec uses."""

from __future__ import annotations

from typing import Any

from .anchors import Anchors
from .avggt import Avggt
from .blocksparse import BlockSparse
from .flash import Flash
from .httm import Httm

PRESETS: dict[str, Any] = {
    "anchors": Anchors,
    "avggt": Avggt,
    "blocksparse": BlockSparse,
    "flash": Flash,
    "httm": Httm,
}
"""Name to options; each has `layers(depth)` and the paper's defaults."""
