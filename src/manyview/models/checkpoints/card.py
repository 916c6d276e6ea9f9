"""The licence that a model card (README.md with a header, as on the hub) states."""

from __future__ import annotations

import re
from pathlib import Path

_LICENCE = re.compile(r"^licen[cs]e(_name)?:\s*['\"]?([^'\"\n]+?)['\"]?\s*$", re.MULTILINE)


def card_licence(card: Path) -> str | None:
    """Short name of the licence in the header of a model card; None without a card, header or licence."""
    try:
        parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    except OSError:
        return None
    found = dict(_LICENCE.findall(parts[1])) if len(parts) == 3 and not parts[0].strip() else {}
    named = found.get("_name")
    return named if named and found.get("", "other") == "other" else found.get("")
