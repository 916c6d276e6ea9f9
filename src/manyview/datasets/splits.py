"""Scene lists of the papers (splits.json), by dataset and name; an entry with * stands for a whole folder."""

from __future__ import annotations

import json
from functools import lru_cache
from importlib import resources


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, list[str]]]:
    return json.loads(resources.files(__package__).joinpath("splits.json").read_text(encoding="utf-8"))


def listed_splits(dataset: str) -> tuple[str, ...]:
    """Names of the splits of a dataset; none for one without."""
    return tuple(_table().get(dataset, {}))


def split_scenes(dataset: str, split: str) -> tuple[str, ...]:
    """The scenes of a split. ValueError for an unknown one."""
    try:
        return tuple(_table()[dataset][split])
    except KeyError:
        raise ValueError(
            f"{dataset} has no split {split!r}; there are: {', '.join(listed_splits(dataset)) or 'none'}"
        ) from None
