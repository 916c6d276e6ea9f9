"""What ManyView stores beside the tensors of a weights file."""

from __future__ import annotations

from typing import Any

import msgspec

from ...errors import WeightsError
from ...files.schema import Natural, convert, parse_json, read_json, schema_errors
from .read import Checkpoint

METADATA_KEY = "manyview"
_REMEDY = "use weights that are whole"


class _Accel(msgspec.Struct):
    plan: str | None = None
    early: Natural | None = None
    also: list[str] = []


class Base(msgspec.Struct):
    """Other weights that hold the rest of the tensors (`base.py`): a name, or a file in the same folder."""

    weights: str
    sha256: str


class _Stored(msgspec.Struct):
    """What of it is used; the rest is a record for people."""

    config: dict[str, Any] | None = None
    licence: str | None = None
    accel: _Accel | None = None
    base: Base | None = None


class _ConfigFile(msgspec.Struct):
    manyview: _Stored


def stored_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """What ManyView wrote into the file ("config", "licence", "recipe", ...); empty for other files."""
    text = checkpoint.metadata.get(METADATA_KEY)
    if text is None:
        return {}
    with schema_errors(f"{checkpoint.source}: its metadata entry {METADATA_KEY!r}", _REMEDY, WeightsError):
        data = parse_json(text, dict)
        convert(data, _Stored)
    return data


def stored_base(checkpoint: Checkpoint) -> Base | None:
    """The weights that hold the rest of the tensors; None for a file that has them all."""
    base = stored_metadata(checkpoint).get("base")
    return None if base is None else convert(base, Base)


def stored_config(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The sizes that ManyView wrote into the file, or into the config.json beside it; None without any."""
    stored = stored_metadata(checkpoint).get("config")
    path = checkpoint.config_path
    if stored or path is None:
        return stored or None
    data = read_json(path, object, remedy="remove it or write it again", error=WeightsError)
    # Other programs use the name config.json for other things.
    if not isinstance(data, dict) or not isinstance(data.get(METADATA_KEY), dict):
        return None
    with schema_errors(str(path), "remove it or write it again", WeightsError):
        return convert(data, _ConfigFile).manyview.config
