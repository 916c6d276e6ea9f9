"""The vertices of a PLY file, ASCII or binary, whatever else it holds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from jaxtyping import Float

from ..errors import InputError
from .schema import open_regular

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip


def read_vertices(path: Path) -> Float[np.ndarray, "n 3"]:
    """x, y, z of every vertex that is finite. InputError for a file of another kind or one cut short."""
    try:
        with open_regular(path) as file:
            form, count, fields = _header(file)
            if form == "ascii":
                rows = (
                    np.loadtxt(file, max_rows=count, ndmin=2, dtype=np.float64) if count else np.zeros((0, 3))
                )
                if len(rows) != count:
                    raise ValueError(f"{len(rows)} of {count} vertices")
                names = [name for name, _ in fields]
                points = rows[:, [names.index(axis) for axis in "xyz"]] if count else rows
            else:
                order = "<" if form == "binary_little_endian" else ">"
                kind = np.dtype([(name, order + code) for name, code in fields])
                data = np.frombuffer(file.read(count * kind.itemsize), kind)
                if len(data) != count:
                    raise ValueError(f"{len(data)} of {count} vertices")
                points = np.stack([data[axis].astype(np.float64) for axis in "xyz"], -1)
    except (OSError, ValueError, LookupError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: cannot be read as a PLY file ({error}); copy it again") from error
    return points[np.isfinite(points).all(1)]


def _header(file) -> tuple[str, int, list[tuple[str, str]]]:
    """(format, number of vertices, their fields); the vertices come first."""
    if file.readline().strip() != b"ply":
        raise ValueError("does not begin with ply")
    form, count, fields, element = "", 0, [], ""
    for raw in iter(file.readline, b""):
        words = raw.decode("ascii").split()
        if words[:1] == ["end_header"]:
            break
        if words[:1] == ["format"]:
            form = words[1]
        elif words[:1] == ["element"]:
            if not element and words[1] != "vertex":
                raise ValueError(f"its first element is {words[1]}, expected vertex")
            element = words[1]
            count = int(words[2]) if element == "vertex" else count
        elif words[:1] == ["property"] and element == "vertex":
            fields.append((words[2], _TYPES[words[1]]))
    if not 0 <= count < 2**40:
        raise ValueError(f"it has {count} vertices")
    return form, count, fields
