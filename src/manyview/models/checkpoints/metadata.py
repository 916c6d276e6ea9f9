"""What ManyView stores beside the tensors of a weights file."""

from __future__ import annotations

import json
from typing import Any

from ...errors import WeightsError
from .read import Checkpoint

METADATA_KEY = "manyview"


def stored_metadata(checkpoint: Checkpoint) -> dict[str, Any]:
    """What ManyView wrote into the file ("config", "licence", "recipe", ...); empty for other files."""
    text = checkpoint.metadata.get(METADATA_KEY)
    if text is None:
        return {}
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        raise WeightsError(
            f"{checkpoint.source}: its metadata entry {METADATA_KEY!r} is not JSON of an object"
        )
    return data


def stored_config(checkpoint: Checkpoint) -> Any:
    """The sizes that ManyView wrote into the file, or into the config.json beside it; None without any."""
    stored = stored_metadata(checkpoint).get("config")
    if stored or checkpoint.config_path is None:
        return stored or None
    try:
        data = json.loads(checkpoint.config_path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise WeightsError(f"{checkpoint.config_path} is not readable JSON: {error}") from error
    # Other programs use the name config.json for other things.
    ours = data.get(METADATA_KEY) if isinstance(data, dict) else None
    return ours.get("config") if isinstance(ours, dict) else None
