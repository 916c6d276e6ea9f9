"""Rows beside a model's: image-independent baselines (identity, mean-step) and COLMAP."""

from __future__ import annotations

from collections.abc import Sequence

from ...errors import UsageError
from .colmap import require_colmap

IDENTITY, MEAN_STEP, COLMAP = "identity", "mean-step", "colmap"
REFERENCES = (IDENTITY, MEAN_STEP, COLMAP)


def reference_names(given: Sequence[str]) -> tuple[str, ...]:
    """Names given apart or joined by commas, each once; "none" stands for none.

    UsageError for an unknown one, MissingExtraError for colmap without pycolmap, before anything runs.
    """
    names = tuple(dict.fromkeys(name for part in given for name in part.split(",") if name))
    names = () if names == ("none",) else names
    for name in names:
        if name not in REFERENCES:
            raise UsageError(f"there is no reference {name!r}; choose of {', '.join(REFERENCES)}, or none")
    if COLMAP in names:
        require_colmap()
    return names
