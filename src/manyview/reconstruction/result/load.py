"""Reading a result folder back: header and arrays are checked against each other."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from ...errors import DamagedInputError, InputError, ManyViewError
from ...files.array_file import map_arrays
from ...files.lock import finish_interrupted
from ..inputs.views import ViewRecord
from .arrays import ARRAY_FIELDS, OPTIONAL_ARRAYS, hash_settings
from .result import Reconstruction
from .save import ARRAYS_NAME, FORMAT, FORMAT_VERSION, HEADER_NAME

MAP_FROM_BYTES = 2**30
"""Arrays of so many bytes are not read but mapped."""


def load_reconstruction(folder: str | Path) -> Reconstruction:
    """Read a reconstruction back from the folder `save` wrote; arrays of a gibibyte or more stay on the disk.

    Raises InputError when there is none or another version wrote it, DamagedInputError when a file is
    truncated or does not fit the other; the message names the file. A save that was killed while it moved its
    files is finished first (OutputError where it cannot be).
    """
    folder = Path(folder)
    finish_interrupted(folder)
    header = _read_header(folder / HEADER_NAME)
    try:
        fields: dict[str, Any] = {
            "views": tuple(ViewRecord.from_json(view) for view in header["views"]),
            "settings": header["settings"],
            "timings_s": header["timings_s"],
            "memory_bytes": header["memory_bytes"],
            "notes": tuple(header["notes"]),
            "pixel_centres": header["pixel_centres"],
            "comparison": header.get("receipt"),
        }
        if header["settings_hash"] != hash_settings(header["settings"]):
            raise ValueError("the settings do not match their hash, so they were edited")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedInputError(
            f"{folder / HEADER_NAME}: the header is damaged ({_reason(error)}); reconstruct again"
        ) from error
    arrays = _read_arrays(folder / ARRAYS_NAME, header["save_id"])
    try:
        return Reconstruction(**(fields | arrays))
    except (ValueError, ManyViewError) as error:
        raise DamagedInputError(f"{folder}: the files do not hold a valid reconstruction: {error}") from error


def read_settings(folder: str | Path) -> dict[str, Any]:
    """Only the settings of the reconstruction in `folder`, without its arrays; same errors as loading."""
    return dict(_read_header(Path(folder) / HEADER_NAME).get("settings") or {})


def _read_header(path: Path) -> dict[str, Any]:
    folder = path.parent
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; give the output folder of manyview reconstruct")
    try:
        header = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder}: holds no reconstruction ({HEADER_NAME} is missing); "
            "give the output folder of manyview reconstruct"
        ) from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    except ValueError as error:
        raise DamagedInputError(
            f"{path}: the header is truncated or not JSON ({_reason(error)}); reconstruct again"
        ) from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise InputError(
            f"{path}: was not written by ManyView; give the output folder of manyview reconstruct"
        )
    if header.get("format_version") != FORMAT_VERSION:
        raise InputError(
            f"{path}: has format version {header.get('format_version')} "
            f"(ManyView {header.get('manyview_version')}), "
            f"this ManyView reads version {FORMAT_VERSION}; install the matching release or reconstruct again"
        )
    return header


def _read_arrays(path: Path, save_id: str) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DamagedInputError(f"{path}: is missing beside its header; reconstruct again")
    try:
        with safe_open(path, framework="numpy") as file:
            found = set(file.keys())
            missing = sorted(ARRAY_FIELDS.keys() - OPTIONAL_ARRAYS - found)
            if missing or found - ARRAY_FIELDS.keys():
                problem = (
                    f"lacks {missing[0]}" if missing else f"has {min(found - ARRAY_FIELDS.keys())} too many"
                )
                raise DamagedInputError(
                    f"{path}: {problem}, so it is not a reconstruction; reconstruct again"
                )
            if (file.metadata() or {}).get("save_id") != save_id:
                raise DamagedInputError(f"{path}: belongs to another save than its header; reconstruct again")
            if path.stat().st_size < MAP_FROM_BYTES:
                return {name: file.get_tensor(name) for name in ARRAY_FIELDS if name in found}
        return map_arrays(path)
    except (SafetensorError, OSError) as error:
        if not os.access(path, os.R_OK):
            raise InputError(f"{path}: may not be read by this user; check its permissions") from error
        raise DamagedInputError(
            f"{path}: is truncated or damaged ({_reason(error)}); reconstruct again"
        ) from error


def _reason(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{text} is missing" if isinstance(error, KeyError) else text
