"""Weights that have a name here: one row each, listed by the family they belong to."""

from __future__ import annotations

import dataclasses

from ..config import NetworkConfig


@dataclasses.dataclass(frozen=True)
class NamedModel:
    """Weights with a name: where they are, and what their licence allows.

    Attributes:
        name: The short name.
        hub_id: Repository on the hub; None for weights that come with the package.
        licence: Short name of the licence of the weights.
        commercial_use: Whether it allows commercial use; None where that is not known.
        notes: For people, as are `predicts`, `images` and `methods` (which accelerations apply).
        revision: Commit of the repository, so that a name means the same weights tomorrow.
        file: One of several files of the repository, or the bundled file.
        plan: The plan that the weights were trained for where that is not dense attention.
        config: Sizes of these weights, which a file of unknown origin may have too.
        size_bytes: About how large the download is, or the bundled file.
        trained_on: Images that the weights were trained on, where others are beyond them.
    """

    name: str
    hub_id: str | None
    licence: str
    commercial_use: bool | None
    notes: str
    revision: str | None = None
    file: str | None = None
    predicts: str = "cameras, depth, points"
    images: str = "longer side 518, patches of 14"
    methods: str = "all"
    plan: str | None = None
    config: NetworkConfig | None = None
    size_bytes: int | None = None
    trained_on: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What it is found by, in lower case: its name, hub id, and hub id with file."""
        hub_id = (self.hub_id or "").lower()
        names = (self.name, *((hub_id,) if hub_id else ()))
        return (*names, f"{hub_id}/{self.file}") if hub_id and self.file else names
