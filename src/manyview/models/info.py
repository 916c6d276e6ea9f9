"""Where a model's weights came from and what their licence allows."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """Provenance of loaded weights.

    `licence` is None where nothing states it; `commercial_use` is None where it is not known.
    `weights_sha256` is the digest of the file (of the list of digests for several shards). `metadata`
    is what ManyView stored in the file: recipe, numbers, configuration. `plan` is the global attention that
    the weights were trained for, as a spec such as "flash" (None: dense attention). `trained_on` says on
    which images they were trained, where others are beyond them. `notes` say how the weights were chosen.
    """

    name: str
    source: str
    licence: str | None
    commercial_use: bool | None
    weights_sha256: str
    metadata: dict[str, Any]
    plan: str | None = None
    trained_on: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def early_layers(self) -> int | None:
        """First global layers that `--accel auto` may cut to their own frame, where the weights say so."""
        found = self.metadata.get("accel")
        early = found.get("early") if isinstance(found, dict) else None
        return early if isinstance(early, int) and early >= 0 else None

    @property
    def also(self) -> tuple[str, ...]:
        """Other plans that the weights were trained under, where they say so."""
        found = self.metadata.get("accel")
        return tuple(found.get("also", ())) if isinstance(found, dict) else ()

    def sentence(self) -> str:
        """The licence in one line."""
        allowed = {True: "commercial use allowed", False: "no commercial use", None: "check before use"}
        licence = self.licence or "not stated by the file"
        return f"weights {self.name}: licence {licence} ({allowed[self.commercial_use]})"
