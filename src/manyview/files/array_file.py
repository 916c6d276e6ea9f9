"""Arrays of a result in one safetensors file that is written row by row, in any order, and read as a map.

The file is an ordinary `arrays.safetensors`; only its making differs from `result.save.save`: nothing but the
rows at hand is ever in memory.
"""

from __future__ import annotations

import glob
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

_NAMES = {"float64": "F64", "float32": "F32", "int64": "I64", "uint8": "U8", "bool": "BOOL"}
DTYPES = {short: name for name, short in _NAMES.items()}
"""NumPy's name by the name of safetensors of the types that arrays may have."""
_SPARE = 64  # bytes of header a name, so that shapes and places may change in a header of fixed length
_FINISHED = re.compile(r"^([0-9]{1,9}) ([01])\n", re.MULTILINE)

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a safetensors file, read-only and memory-mapped.

    For files that `safetensors` opens, with arrays of `DTYPES`: nothing is checked here.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    return {
        name: np.memmap(path, DTYPES[a["dtype"]], "r", 8 + length + a["data_offsets"][0], tuple(a["shape"]))
        for name, a in header.items()
        if name != "__metadata__"
    }


def rows_name(name: str, part: int = 0) -> str:
    """Name of a writer's list of finished rows beside an unfinished file."""
    return f"{name}.rows" + (f".{part}" if part else "")


class ArrayFile:
    """Arrays by name, of a type and a shape whose first number is the rows (views); a context manager.

    Rows that were never written are zero. A file that earlier processes left unfinished, with the same
    arrays and metadata, is continued: `done` says which rows they had finished (see `finish`), from lists
    beside the file. Raises OSError as writing files does.

    Several processes may write rows of one file, each its own, with a list each: the first (`part` 0) makes
    the file, and others open it then. When all are written (`settle`) the first goes on alone.
    """

    def __init__(self, path: Path, shapes: Shapes, metadata: Mapping[str, str], part: int = 0) -> None:
        self._path, self._metadata = path, dict(metadata)
        # Wide types first: every array then starts at a multiple of its own width.
        self._shapes = dict(sorted(shapes.items(), key=lambda item: -np.dtype(item[1][0]).itemsize))
        self._length = (len(json.dumps(self._header())) + _SPARE * len(shapes)) // 8 * 8 + 8
        self._list = path.with_name(rows_name(path.name, part))
        self.done: dict[int, bool] = {}
        if part or self._is_there():
            rows = min(shape[0] for _, shape in shapes.values())
            for one in self._lists():
                # Whole lines only: the last one may have been cut off.
                found = _FINISHED.findall(one.read_text(errors="replace"))
                self.done |= {int(row): good == "1" for row, good in found if int(row) < rows}
            self._file = path.open("rb+")
        else:
            self._remove_lists()
            self._file = path.open("wb+")
            self._list.write_text("")
            self._write_header()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, name: str, rows: Sequence[int], values: np.ndarray) -> None:
        """Set some rows of an array; `values` are of its type and the shape [rows, ...]."""
        dtype, shape = self._shapes[name]
        if values.dtype != dtype or values.shape != (len(rows), *shape[1:]):
            raise ValueError(
                f"{name}: {values.dtype} {values.shape} is not {len(rows)} rows of {dtype} {shape}"
            )
        start, width = self._place(name)
        for row, value in zip(rows, np.ascontiguousarray(values), strict=True):
            if not 0 <= row < shape[0]:
                raise ValueError(f"{name} has {shape[0]} rows, not a row {row}")
            self._file.seek(start + row * width)
            self._file.write(value.tobytes())

    def finish(self, rows: Sequence[int], good: Sequence[bool]) -> None:
        """All arrays of these rows are written and so many of them good: that holds even if we are killed."""
        self._file.flush()
        with self._list.open("a") as file:
            file.write("".join(f"{row} {int(kept)}\n" for row, kept in zip(rows, good, strict=True)))
        self.done |= dict(zip(rows, good, strict=True))

    def settle(self) -> None:
        """Put on the disk what was written and let go of the file, for another process to read."""
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def remove(self) -> None:
        """Take the lists of finished rows away, and the file if it is still there."""
        self._remove_lists()
        self._path.unlink(missing_ok=True)

    def keep(self, good: Bool[np.ndarray, " rows"]) -> None:
        """Leave out the rows that are not good, of all arrays."""
        if good.all():
            return
        self._remove_lists()  # half moved, the rows are no longer where they say
        if self._file.closed:
            self._file = self._path.open("rb+")
        old = {name: self._place(name) for name in self._shapes}
        count = int(good.sum())
        self._shapes = {name: (dtype, (count, *shape[1:])) for name, (dtype, shape) in self._shapes.items()}
        for name, (start, width) in old.items():  # every row moves forward, so none is overwritten unread
            target = self._place(name)[0]
            for place, row in enumerate(np.flatnonzero(good)):
                self._file.seek(start + int(row) * width)
                value = self._file.read(width)
                self._file.seek(target + place * width)
                self._file.write(value)
        self._write_header()

    def mapped(self) -> dict[str, np.ndarray]:
        """All arrays, read-only and memory-mapped."""
        if not self._file.closed:
            self._file.flush()
        return map_arrays(self._path)

    def _place(self, name: str) -> tuple[int, int]:
        """Where an array starts in the file, and the bytes of a row."""
        dtype, shape = self._shapes[name]
        start = self._header()[name]["data_offsets"][0]
        return 8 + self._length + start, np.dtype(dtype).itemsize * math.prod(shape[1:])

    def _header(self) -> dict[str, Any]:
        header: dict[str, Any] = {"__metadata__": self._metadata}
        start = 0
        for name, (dtype, shape) in self._shapes.items():
            stop = start + np.dtype(dtype).itemsize * math.prod(shape)
            header[name] = {"dtype": _NAMES[dtype], "shape": list(shape), "data_offsets": [start, stop]}
            start = stop
        self._total = start
        return header

    def _first_bytes(self) -> bytes:
        text = json.dumps(self._header()).encode().ljust(self._length)
        assert len(text) == self._length
        return self._length.to_bytes(8, "little") + text

    def _write_header(self) -> None:
        self._file.seek(0)
        self._file.write(self._first_bytes())
        self._file.truncate(8 + self._length + self._total)

    def _lists(self) -> list[Path]:
        return list(self._path.parent.glob(f"{glob.escape(rows_name(self._path.name))}*"))

    def _remove_lists(self) -> None:
        for one in self._lists():
            one.unlink(missing_ok=True)

    def _is_there(self) -> bool:
        wanted = self._first_bytes()
        if not self._path.is_file() or not self._list.is_file():
            return False
        with self._path.open("rb") as file:
            same = file.read(len(wanted)) == wanted
        return same and self._path.stat().st_size == len(wanted) + self._total
