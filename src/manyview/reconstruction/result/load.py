"""Reading a result folder back: header and arrays are checked against each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from safetensors import SafetensorError, safe_open

from ...errors import DamagedInputError, InputError, ManyViewError
from ...files.array_file import DTYPES, map_arrays
from ...files.lock import finish_interrupted
from ...files.schema import Duration, Finite, Natural, convert, read_json, schema_errors
from ..inputs.views import StoredView
from .arrays import ARRAY_FIELDS, OPTIONAL_ARRAYS, TRACK_ARRAYS, hash_settings
from .result import Reconstruction
from .save import ARRAYS_NAME, FORMAT, FORMAT_VERSION, HEADER_NAME
from .stored_refinement import StoredRefinement
from .tracks import Tracks

MAP_FROM_BYTES = 2**30
"""Arrays of so many bytes are not read but mapped."""


class _Quality(msgspec.Struct, frozen=True):
    """`Reconstruction.quality`."""

    grade: Literal["good", "doubtful", "bad"] | None
    sentence: str
    figures: dict[str, int | Finite | None]
    weak_views: list[str]


class _Header(msgspec.Struct, frozen=True):
    """`reconstruction.json`; newer releases may add fields."""

    save_id: str
    settings: dict[str, Any]
    settings_hash: str
    timings_s: dict[str, Duration]
    memory_bytes: dict[str, Natural]
    notes: tuple[str, ...]
    pixel_centres: str
    views: tuple[StoredView, ...]
    receipt: dict[str, Any] | None = None
    metric: dict[str, Any] | None = None
    warnings: tuple[str, ...] = ()
    quality: _Quality | None = None
    refinement: StoredRefinement | None = None

    def __post_init__(self) -> None:
        if self.settings_hash != hash_settings(self.settings):
            raise ValueError("the settings do not match their hash")


def load_reconstruction(folder: str | Path) -> Reconstruction:
    """Read a reconstruction back from the folder `save` wrote; arrays of a gibibyte or more stay on the disk.

    Raises InputError when there is none or another version wrote it, DamagedInputError when a file is
    truncated or does not fit the other; the message names the file. A save that was killed while it moved its
    files is finished first (OutputError where it cannot be).
    """
    folder = Path(folder)
    if os.path.isdir(folder):
        finish_interrupted(folder)
    header = _read_header(folder / HEADER_NAME)
    arrays = _read_arrays(folder / ARRAYS_NAME, header.save_id)
    try:
        tracks = {name.partition(".")[2]: arrays.pop(name) for name in TRACK_ARRAYS if name in arrays}
        return Reconstruction(
            tracks=Tracks(**tracks) if tracks else None,
            refinement=None if header.refinement is None else msgspec.to_builtins(header.refinement),
            views=tuple(view.record() for view in header.views),
            settings=header.settings,
            timings_s=header.timings_s,
            memory_bytes=header.memory_bytes,
            notes=header.notes,
            pixel_centres=header.pixel_centres,
            comparison=header.receipt,
            metric=header.metric,
            warnings=header.warnings,
            quality=None if header.quality is None else msgspec.to_builtins(header.quality),
            **arrays,
        )
    except (ValueError, TypeError, ManyViewError) as error:
        raise DamagedInputError(f"{folder}: the files do not hold a valid reconstruction: {error}") from error


def load_if_whole(folder: str | Path) -> Reconstruction | None:
    """The reconstruction in `folder` if it loads, arrays and all, else None."""
    try:
        return load_reconstruction(folder)
    except ManyViewError:
        return None


def read_settings(folder: str | Path) -> dict[str, Any]:
    """Only the settings of the reconstruction in `folder`, without its arrays; same errors as loading."""
    return _read_header(Path(folder) / HEADER_NAME).settings


def _read_header(path: Path) -> _Header:
    folder = path.parent
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: there is no such folder; give the output folder of manyview reconstruct")
    if not os.path.exists(path):
        raise InputError(
            f"{folder}: holds no reconstruction ({HEADER_NAME} is missing); "
            "give the output folder of manyview reconstruct"
        )
    header = read_json(path, object, remedy="reconstruct again", unreadable=InputError)
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
    with schema_errors(str(path), "reconstruct again"):
        return convert(header, _Header)


def _read_arrays(path: Path, save_id: str) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise DamagedInputError(f"{path}: is missing beside its header; reconstruct again")
    try:
        with safe_open(path, framework="numpy") as file:
            found = {name: DTYPES.get(file.get_slice(name).get_dtype()) for name in file.keys()}  # noqa: SIM118
            wanted = {name: dtype for name, (dtype, _) in ARRAY_FIELDS.items()} | TRACK_ARRAYS
            wrong = wanted.keys() - OPTIONAL_ARRAYS - TRACK_ARRAYS.keys() - found.keys()
            wrong |= {name for name, dtype in found.items() if wanted.get(name) != dtype}
            if wrong:
                raise DamagedInputError(
                    f"{path}: {min(wrong)} is missing, of another type or too many, so it is not a "
                    "reconstruction; reconstruct again"
                )
            if (file.metadata() or {}).get("save_id") != save_id:
                raise DamagedInputError(f"{path}: belongs to another save than its header; reconstruct again")
            if path.stat().st_size < MAP_FROM_BYTES:
                return {name: file.get_tensor(name) for name in found}
        return map_arrays(path)
    except (SafetensorError, OSError, ValueError) as error:
        if not os.access(path, os.R_OK):
            raise InputError(f"{path}: may not be read by this user; check its permissions") from error
        raise DamagedInputError(
            f"{path}: is truncated or damaged ({' '.join(str(error).split())}); reconstruct again"
        ) from error
