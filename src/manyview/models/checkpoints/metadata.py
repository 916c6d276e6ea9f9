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
