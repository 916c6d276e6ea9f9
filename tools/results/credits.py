"""Who is owed credit for the pictures that weights were trained on: their recipes and `credits.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from manyview.errors import UsageError

_FILE = Path(__file__).with_suffix(".toml")
_SUFFIXES = (".jpg", ".jpeg", ".png")


def recipes_of(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Of all runs that led to weights with this metadata, the first run first."""
    found: list[Mapping[str, Any]] = []
    recipe = metadata.get("recipe")
    while recipe:
        found.insert(0, recipe)
        recipe = (recipe.get("start") or {}).get("recipe")
    return found


def training_sets(recipes: Sequence[Mapping[str, Any]]) -> tuple[list[str], bool]:
    """Names of the sets of photographs in these recipes, and whether rendered scenes showed pictures."""
    mixes = [mix for recipe in recipes for stage in recipe["config"]["stages"] for mix in stage["scenes"]]
    posed = [mix["posed"]["folders"] for mix in mixes if mix.get("posed")]
    shown = any(mix.get(when, {}).get("pictures") for mix in mixes for when in ("start", "end"))
    return sorted({name for names in posed for name in names}), shown


def picture_kinds(folder: Path, known: Sequence[str]) -> list[str]:
    """Which of the names in `known` begin the names of a folder's pictures. UsageError for one without."""
    found = set()
    for path in folder.rglob("*"):
        if path.suffix.lower() in _SUFFIXES:
            kinds = [name for name in known if path.stem == name or path.stem.startswith(f"{name}-")]
            if not kinds:
                raise UsageError(f"{path} has no credit in {_FILE}: name its author and licence there")
            found.add(max(kinds, key=len))
    if not found:
        raise UsageError(f"{folder} holds no picture ({', '.join(_SUFFIXES)})")
    return sorted(found)


def credits_table(recipes: Sequence[Mapping[str, Any]], textures: Path | None) -> str:
    """Markdown of the sets that these recipes name, with authors, sources and licences.

    Args:
        recipes: Of all runs that led to the weights.
        textures: The folder of pictures that a recipe with `--textures` was trained on.

    Raises:
        UsageError: A set without a credit, or no `textures` for a recipe that had them.
    """
    known = tomllib.loads(_FILE.read_text("utf-8"))
    photographs, shown = training_sets(recipes)
    unknown = [name for name in photographs if name not in known["photographs"]]
    if unknown:
        raise UsageError(f"photographs {unknown[0]} have no credit in {_FILE}: name author and licence there")
    if shown and textures is None:
        raise UsageError("these weights were trained on pictures: give their folder with --textures")
    rows = [(f"photographs {name}", known["photographs"][name]) for name in photographs]
    if shown and textures is not None:
        kinds = picture_kinds(textures, list(known["textures"]))
        rows += [(f"textures {name}", known["textures"][name]) for name in kinds]
    if not rows:
        return "None: rendered scenes with drawn textures only."
    lines = ["| pictures | show | author | source | licence |", "|---|---|---|---|---|"]
    for name, one in rows:
        source = f"[{one['source']}](https://github.com/{one['source']}/tree/{one['commit']})"
        licence = f"[{one['licence']}]({known['licences'][one['licence']]})"
        lines.append(f"| {name} | {one['shows']} | {one['author']} | {source} | {licence} |")
    return "\n".join([*lines, "", known["changes"]])
