"""The licence of trained weights: our own, or that of the weights that training went on from."""

from __future__ import annotations

from pathlib import Path

from ..models.checkpoints.metadata import stored_metadata
from ..models.checkpoints.read import read_checkpoint
from ..models.families import find_model

LICENCE = "Apache-2.0"


def licence_after(start: str | None) -> str:
    """Licence of weights that started from `start`, a name, hub id, file or folder as in `load`.

    Weights derived from others stay under their licence; where nothing states one, that is said.
    """
    if start is None:
        return LICENCE
    row = find_model(start)
    if row is not None:
        return row.licence if row.licence != "not stated" else _unknown(row.name)
    path = Path(start).expanduser()
    stored = stored_metadata(read_checkpoint(path)).get("licence") if path.exists() else None
    return stored if isinstance(stored, str) else _unknown(path.name)


def _unknown(name: str) -> str:
    return f"not stated: trained on from {name}"
