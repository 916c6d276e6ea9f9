"""`manyview-export.json`: the files that ManyView wrote into a folder, with their checksums."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ..errors import OutputError
from .schema import convert, read_json, schema_errors

MANIFEST_NAME = "manyview-export.json"
_REMEDY = "so ManyView does not know which files here are its own: remove it or export to another folder"


class ExportEntry(msgspec.Struct):
    """One export: SHA-256 by name of its files."""

    files: dict[str, Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]]


class Manifest(msgspec.Struct):
    """Exports by their key; other fields are kept."""

    exports: dict[str, ExportEntry]


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest as plain JSON that fits `Manifest`; one without exports where there is none.

    The names in it are anyone's: they are to be resolved inside the folder before they are used. Raises
    OutputError for a file that is no manifest.
    """
    if not os.path.lexists(path):
        return {"exports": {}}
    manifest = read_json(path, dict[str, Any], remedy=_REMEDY, error=OutputError)
    with schema_errors(str(path), _REMEDY, OutputError):
        convert(manifest, Manifest)
    return manifest
