"""Which files of a folder are the weights, and the licence that its model card states."""

from __future__ import annotations

import os
import re
from pathlib import Path

import msgspec

from ...errors import WeightsError
from ...files.schema import read_json, read_regular

SINGLE_FILES = ("model.safetensors", "model.pt", "model.pth", "pytorch_model.bin")
SHARD_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_LICENCE = re.compile(r"^licen[cs]e(_name)?:\s*['\"]?([^'\"\n]+?)['\"]?\s*$", re.MULTILINE)
_SUFFIXES = (".safetensors", ".pt", ".pth", ".bin")


class _Index(msgspec.Struct):
    """Which shard holds a tensor."""

    weight_map: dict[str, str]


def find_weights(folder: Path) -> tuple[tuple[Path, ...], Path]:
    """The weights files of `folder` (one, or all shards) and the path its config.json would have.

    A usual name comes first, then a shard index, then the only file with a suffix of weights.
    """
    config = folder / "config.json"
    for name in SINGLE_FILES:
        if (folder / name).is_file():
            return (folder / name,), config
    for name in SHARD_INDEXES:
        if (folder / name).is_file():
            return shards_of(folder / name), config
    found = sorted(p for p in folder.iterdir() if p.suffix in _SUFFIXES and p.is_file())
    if len(found) == 1:
        return (found[0],), config
    if found:
        names = ", ".join(p.name for p in found[:8])
        raise WeightsError(f"{folder} holds {len(found)} weights files ({names}): name one of them")
    raise WeightsError(
        f"{folder} holds no weights: expected {SINGLE_FILES[0]}, {SINGLE_FILES[1]} or {SHARD_INDEXES[0]}"
    )


def shard_names(index: Path) -> tuple[str, ...]:
    """Names of the shards an index file lists, each a plain file name beside it."""
    found = read_json(index, _Index, remedy="download it again", error=WeightsError)
    names = sorted(set(found.weight_map.values()))
    if not names:
        raise WeightsError(f"{index} lists no shard")
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\\" in name:
            raise WeightsError(f"{index} names the shard {name!r}, which is not a file beside it")
    return tuple(names)


def shards_of(index: Path) -> tuple[Path, ...]:
    """The shard files of an index, all present."""
    paths = tuple(index.parent / name for name in shard_names(index))
    missing = [path.name for path in paths if not os.path.isfile(path)]
    if missing:
        raise WeightsError(
            f"{index.parent}: {len(missing)} of {len(paths)} shards are missing, the first being {missing[0]}"
        )
    return paths


def card_licence(card: Path) -> str | None:
    """Short name of the licence in the header of a model card; None without a card, header or licence."""
    try:
        parts = read_regular(card).decode("utf-8", errors="replace").split("---", 2)
    except OSError:
        return None
    found = dict(_LICENCE.findall(parts[1])) if len(parts) == 3 and not parts[0].strip() else {}
    named = found.get("_name")
    return named if named and found.get("", "other") == "other" else found.get("")
