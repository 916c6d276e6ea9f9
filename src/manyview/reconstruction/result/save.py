"""A reconstruction as a folder: `reconstruction.json` (header), `arrays.safetensors`, perhaps `receipt.json`.

They are moved into place together (`files.transaction`). The header carries the number of the save it belongs
to, so that header and arrays cannot be mixed up. Format version 1.
"""

from __future__ import annotations

import contextlib
import json
import math
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from ..._version import __version__
from ...errors import ManyViewError, OutputError
from ...files.array_file import ArrayFile, Shapes, rows_name
from ...files.lock import check_folder, sole_writer
from ...files.naming import enumerated
from ...files.schema import check_regular, parse_json, read_regular
from ...files.transaction import RESUMABLE_PREFIX, commit, output_path, staging
from ...files.writing import (
    check_writable,
    entries,
    make_readable,
    output_errors,
    partial_name,
    require_space,
)
from .arrays import ARRAY_FIELDS, TRACK_ARRAYS, hash_settings

if TYPE_CHECKING:
    from ...distributed.ranks import Ranks
    from .result import Reconstruction

HEADER_NAME = "reconstruction.json"
ARRAYS_NAME = "arrays.safetensors"
COMPARISON_NAME = "receipt.json"
COMPARISON_FORMAT = "manyview receipt"
FORMAT = "manyview reconstruction"
FORMAT_VERSION = 1
_JSON_FORMATS = {HEADER_NAME: FORMAT, COMPARISON_NAME: COMPARISON_FORMAT}


def check_output_folder(folder: str | Path, overwrite: bool = False, comparison: bool = False) -> None:
    """Raise OutputError unless a reconstruction may be written to `folder`; call it before the heavy part.

    The folder may be missing or empty. With `overwrite` it may hold anything, of which only a header, arrays
    and (with `comparison`) a receipt that ManyView wrote are replaced.
    """
    folder = Path(folder)
    with output_errors(folder, 0):
        check_folder(folder)
        names = entries(folder) if folder.exists() else []
        check_writable(folder)
    if names and not overwrite:
        raise OutputError(
            f"{folder}: the folder is not empty ({enumerated(names, 1)}); choose an empty one, "
            "or use --overwrite, which replaces only files that ManyView wrote"
        )
    for name in (HEADER_NAME, ARRAYS_NAME, *((COMPARISON_NAME,) if comparison else ())):
        if name in names and not _is_ours(output_path(folder, name)):
            raise OutputError(
                f"{folder / name}: is in the way and was not written by ManyView, so it is not replaced; "
                "move it away or choose another folder"
            )


def save(scene: Reconstruction, folder: str | Path, overwrite: bool = False) -> Path:
    """Write a reconstruction to `folder` and return the folder.

    Either all files are there afterwards or, if anything goes wrong (a full disk, Ctrl-C, a kill), what was
    there before. Raises OutputError when the folder holds something else, another process writes there, or
    the disk is full.
    """
    folder = Path(folder)
    arrays = {name: np.ascontiguousarray(array) for name, array in _arrays(scene).items()}
    needed = sum(array.nbytes for array in arrays.values()) + 20_000 + 2000 * len(scene)
    with sole_writer(folder, needed):
        check_output_folder(folder, overwrite, scene.comparison is not None)
        require_space(folder, needed)
        save_id = uuid.uuid4().hex
        with staging(folder) as stage:
            save_file(arrays, stage / ARRAYS_NAME, metadata={"format": FORMAT, "save_id": save_id})
            make_readable(stage / ARRAYS_NAME)
            _commit(scene, folder, save_id, stage, stage / ARRAYS_NAME)
    return folder


def save_rows(
    folder: str | Path,
    shapes: Shapes,
    fill: Callable[[ArrayFile], Reconstruction],
    overwrite: bool = False,
    settings: Mapping[str, Any] | None = None,
    ranks: Ranks | None = None,
) -> Reconstruction:
    """Have `fill` write arrays of these `shapes` row by row and return the result made of them, mapped.

    The folder is what `save` would have written, with the same promises; `fill` may leave rows out. If the
    process is interrupted or killed, the next call with the same `settings` (if they are given) gets the
    rows that were finished. With `ranks` this is the first of them, and the others are in `write_part`.
    """
    folder = Path(folder)
    known = uuid.uuid4().hex if settings is None else dict(settings)
    settings_id = hash_settings({"settings": known, "shapes": dict(shapes)})
    metadata = {"format": FORMAT, "save_id": f"long-{settings_id}"}
    unfinished = folder / (partial_name() if settings is None else f"{RESUMABLE_PREFIX}{settings_id}")
    needed = _bytes(shapes) + 1_000_000
    with sole_writer(folder, needed):
        check_output_folder(folder, overwrite)
        require_space(folder, needed)
        for name in (unfinished.name, rows_name(unfinished.name)):
            output_path(folder, name)  # no link leads elsewhere
        with ArrayFile(unfinished, shapes, metadata) as file:
            try:
                if ranks is not None:
                    ranks.objects((unfinished.name, dict(shapes), metadata))
                scene = fill(file)
            except Exception as error:  # what was interrupted from outside stays for the next time
                if settings is None or ranks is None or isinstance(error, ManyViewError | OSError):
                    file.remove()
                raise
        with staging(folder) as stage:
            _commit(scene, folder, metadata["save_id"], stage, unfinished)
        file.remove()  # what is left beside it
    if ranks is not None:
        ranks.objects(None)
    return scene


def write_part(folder: str | Path, fill: Callable[[ArrayFile], object], ranks: Ranks) -> None:
    """Have `fill` write rows of the file that the first of `ranks` makes in `save_rows`.

    Returns when the result is in place.
    """
    folder = Path(folder)
    name, shapes, metadata = ranks.objects(None)[0]
    part = ranks.split.rank
    with output_errors(folder, _bytes(shapes)):
        if not (folder / name).is_file():
            raise OutputError(
                f"{folder}: what rank 0 makes there is not seen by rank {part}; choose a folder on a file "
                "system that all ranks share"
            )
        output_path(folder, rows_name(name, part))
        with ArrayFile(folder / name, shapes, metadata, part) as file:
            fill(file)
    ranks.objects(None)


def _bytes(shapes: Shapes) -> int:
    return sum(np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in shapes.values())


def _commit(scene: Reconstruction, folder: Path, save_id: str, stage: Path, arrays: Path) -> None:
    """Put arrays, header and comparison in place; unfinished files and another result's comparison go."""
    contents = {HEADER_NAME: _header(scene, save_id)}
    if scene.comparison is not None:
        about = {"format": COMPARISON_FORMAT, "settings_hash": scene.settings_hash}
        contents[COMPARISON_NAME] = {**about, **scene.comparison}
    for name, content in contents.items():
        text = json.dumps(content, indent=1, allow_nan=False, ensure_ascii=False)
        (stage / name).write_text(text, encoding="utf-8")
    old = [path.name for path in folder.glob(f"{RESUMABLE_PREFIX}*") if path != arrays]
    if scene.comparison is None and _is_ours(folder / COMPARISON_NAME):
        old.append(COMPARISON_NAME)
    commit(folder, {name: stage / name for name in contents} | {ARRAYS_NAME: arrays}, old)


def _arrays(scene: Reconstruction) -> dict[str, np.ndarray]:
    pairs = [(name, getattr(scene, name)) for name in ARRAY_FIELDS]
    if scene.tracks is not None:
        fields = ((name, getattr(scene.tracks, name.partition(".")[2])) for name in TRACK_ARRAYS)
        pairs += [(name, array.astype(TRACK_ARRAYS[name], copy=False)) for name, array in fields]
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
        **({} if scene.metric is None else {"metric": scene.metric}),
        **({"warnings": list(scene.warnings)} if scene.warnings else {}),
        **({} if scene.quality is None else {"quality": scene.quality}),
        **({} if scene.refinement is None else {"refinement": scene.refinement}),
        "views": [view.to_json() for view in scene.views],
    }


def _is_ours(path: Path) -> bool:
    """True if `path` is a header or an array file that ManyView wrote."""
    if path.name in _JSON_FORMATS:
        return _json_format(path) == _JSON_FORMATS[path.name]
    try:
        check_regular(path)
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (OSError, ValueError, SafetensorError):  # damaged arrays beside a header of ours are ours too
        return _json_format(path.with_name(HEADER_NAME)) == FORMAT


def _json_format(path: Path) -> str | None:
    """The "format" that a JSON file names; None for any other file."""
    with contextlib.suppress(OSError, ValueError):
        data = parse_json(read_regular(path), object)
        return data.get("format") if isinstance(data, dict) else None
    return None
