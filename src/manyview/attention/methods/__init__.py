"""Every published way to make global attention cheap that is here, by the name a plan spec uses."""

from __future__ import annotations

from typing import Any

from .anchors import Anchors
from .avggt import Avggt
from .blocksparse import BlockSparse
from .fastvggt import FastVggt
from .flashvggt import Flash
from .gotohunt import GoToHunt
from .httm import Httm
from .random import Random
from .spark3r import Spark3r

PRESETS: dict[str, Any] = {
    "anchors": Anchors,
    "avggt": Avggt,
    "blocksparse": BlockSparse,
    "fastvggt": FastVggt,
    "flash": Flash,
    "gotohunt": GoToHunt,
    "httm": Httm,
    "random": Random,
    "spark3r": Spark3r,
}
"""Name to options; each has `layers(depth)` and the paper's defaults."""
