"""A reconstruction as a folder: `reconstruction.json` (header) and `arrays.safetensors`.

The header is written last and carries the number of the save it belongs to, so a folder with a header
is complete and header and arrays cannot be mixed up. Format version 1.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..._version import __version__
from ...errors import OutputError
from ...files.array_file import ArrayFile, Shapes
from ...files.naming import enumerated
from ...files.writing import (
    PARTIAL_PREFIX,
    atomic_file,
    check_writable,
    created_folder,
    entries,
    make_readable,
    output_errors,
    require_space,
)
from .arrays import ARRAY_FIELDS, hash_settings

if TYPE_CHECKING:
    from .result import Reconstruction

HEADER_NAME = "reconstruction.json"
ARRAYS_NAME = "arrays.safetensors"
COMPARISON_NAME = "receipt.json"
COMPARISON_FORMAT = "manyview receipt"
FORMAT = "manyview reconstruction"
FORMAT_VERSION = 1


def check_output_folder(folder: str | Path, overwrite: bool = False) -> None:
    """Raise OutputError unless a reconstruction may be written to `folder`; call it before the heavy part.

    The folder may be missing or empty. With `overwrite` it may hold anything, of which only a header and
    arrays that ManyView wrote are replaced.
    """
    folder = Path(folder)
    with output_errors(folder, 0):
        if folder.exists() and not folder.is_dir():
            raise OutputError(f"{folder}: is a file, a folder was expected; choose another output folder")
        names = entries(folder) if folder.exists() else []
        check_writable(folder)
    if names and not overwrite:
        raise OutputError(
            f"{folder}: the folder is not empty ({enumerated(names, 1)}); choose an empty one, "
            "or use --overwrite, which replaces only files that ManyView wrote"
        )
    for name in (HEADER_NAME, ARRAYS_NAME):
        if name in names and not _is_ours(folder / name):
            raise OutputError(
                f"{folder / name}: is in the way and was not written by ManyView, so it is not replaced; "
                "move it away or choose another folder"
            )


def save(scene: Reconstruction, folder: str | Path, overwrite: bool = False) -> Path:
    """Write a reconstruction to `folder` and return the folder.

    Either both files are there afterwards or, if anything goes wrong (a full disk, Ctrl-C), what was
    there before. Raises OutputError when the folder holds something else or the disk is full.
    """
    folder = Path(folder)
    check_output_folder(folder, overwrite)
    save_id = uuid.uuid4().hex
    arrays = {name: np.ascontiguousarray(array) for name, array in _arrays(scene).items()}
    header = _to_text(_header(scene, save_id))
    needed = sum(array.nbytes for array in arrays.values()) + len(header) + 10_000
    with output_errors(folder, needed), created_folder(folder):
        require_space(folder, needed)
        with (
            atomic_file(folder / HEADER_NAME) as header_path,
            atomic_file(folder / ARRAYS_NAME) as arrays_path,
        ):
            save_file(arrays, arrays_path, metadata={"format": FORMAT, "save_id": save_id})
            make_readable(arrays_path)
            _flush(arrays_path)
            header_path.write_text(header, encoding="utf-8")
            _flush(header_path)
    return folder


def save_rows(
    folder: str | Path,
    shapes: Shapes,
    fill: Callable[[ArrayFile], Reconstruction],
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
) -> Reconstruction:
    """Have `fill` write arrays of these `shapes` row by row and return the result made of them, mapped.

    The folder is what `save` would have written, with the same promises; `fill` may leave rows out. If the
    process is interrupted or killed, the next call with the same `settings` (if they are given) gets the
    rows that were finished.
    """
    folder = Path(folder)
    check_output_folder(folder, overwrite)
    known = uuid.uuid4().hex if settings is None else dict(settings)
    save_id = f"long-{hash_settings({'settings': known, 'shapes': dict(shapes)})}"
    unfinished = folder / f"{PARTIAL_PREFIX}{save_id}"
    needed = sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in shapes.values()) + 1_000_000
    with output_errors(folder, needed), created_folder(folder):
        require_space(folder, needed)
        with ArrayFile(unfinished, shapes, {"format": FORMAT, "save_id": save_id}) as file:
            try:
                scene = fill(file)
            except Exception:  # what was interrupted from outside stays for the next time
                file.remove()
                raise
        _flush(unfinished)
        with atomic_file(folder / HEADER_NAME) as header_path:
            header_path.write_text(_to_text(_header(scene, save_id)), encoding="utf-8")
            _flush(header_path)
            os.replace(unfinished, folder / ARRAYS_NAME)
        for old in folder.glob(f"{PARTIAL_PREFIX}long-*"):  # of other settings, and the list of rows
            old.unlink(missing_ok=True)
    return scene


def write_comparison(scene: Reconstruction, folder: str | Path) -> Path | None:
    """Write the comparison of a saved result as `receipt.json` beside it, and return the file.

    A result without one takes an earlier receipt of ManyView away, which was another result's. Raises
    OutputError if a file that ManyView did not write is in the way.
    """
    path = Path(folder) / COMPARISON_NAME
    ours = not path.exists() or _json_format(path) == COMPARISON_FORMAT
    if scene.comparison is None:
        if ours:
            path.unlink(missing_ok=True)
        return None
    if not ours:
        raise OutputError(f"{path}: is in the way and was not written by ManyView, so it is not replaced")
    content = {"format": COMPARISON_FORMAT, "settings_hash": scene.settings_hash, **scene.comparison}
    with output_errors(path, 10_000), atomic_file(path) as part:
        part.write_text(_to_text(content), encoding="utf-8")
    return path


def _arrays(scene: Reconstruction) -> dict[str, np.ndarray]:
    pairs = ((name, getattr(scene, name)) for name in ARRAY_FIELDS)
    return {name: array for name, array in pairs if array is not None}


def _header(scene: Reconstruction, save_id: str) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "manyview_version": __version__,
        "save_id": save_id,
        "files": [HEADER_NAME, ARRAYS_NAME],
        "arrays": {name: [str(array.dtype), list(array.shape)] for name, array in _arrays(scene).items()},
        "conventions": {
            "axes": "OpenCV: x right, y down, z forward",
            "cam_from_world": "3x4 [R | t], maps world points into the camera",
            "intrinsics": "pixels of the network images, centre of the first pixel at (0.5, 0.5)",
        },
        "pixel_centres": scene.pixel_centres,
        "settings": scene.settings,
        "settings_hash": scene.settings_hash,
        "timings_s": scene.timings_s,
        "memory_bytes": scene.memory_bytes,
        "notes": list(scene.notes),
        **({} if scene.comparison is None else {"receipt": scene.comparison}),
        "views": [view.to_json() for view in scene.views],
    }


def _is_ours(path: Path) -> bool:
    """True if `path` is a header or an array file that ManyView wrote."""
    if path.name == HEADER_NAME:
        return _json_format(path) == FORMAT
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, ValueError, SafetensorError):  # damaged arrays beside a header of ours are ours too
        return _json_format(path.with_name(HEADER_NAME)) == FORMAT


def _json_format(path: Path) -> str | None:
    """The "format" that a JSON file names; None for any other file."""
    with contextlib.suppress(OSError, ValueError):
        data = json.loads(path.read_text(encoding="utf-8"))
        return data.get("format") if isinstance(data, dict) else None
    return None


def _to_text(content: Mapping[str, Any]) -> str:
    return json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())
