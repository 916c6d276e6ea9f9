"""The vertices and triangles of a PLY file, ASCII or binary, whatever else it holds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ..errors import InputError
from .schema import open_regular

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Mesh:
    """Vertices that are finite, and indices of three for each triangle; None where the file has no faces, or
    such as are no triangles."""

    vertices: Float[np.ndarray, "n 3"]
    triangles: Int[np.ndarray, "m 3"] | None = None


def read_mesh(path: Path) -> Mesh:
    """The vertices and triangles of a file. InputError for a file of another kind or one cut short."""
    try:
        with open_regular(path) as file:
            form, (fields, count), faces = _header(file)
            columns = [[name for name, _ in fields].index(axis) for axis in "xyz"]
            if form == "ascii":
                lines = [line for line in file if line.strip()]
                rows = np.loadtxt(lines[:count], ndmin=2, dtype=np.float64) if count else np.zeros((0, 3))
                points = rows[:, columns] if count else rows
                corners = None
                if faces is not None and all(line.split()[0] == b"3" for line in lines[count:][: faces[1]]):
                    corners = np.loadtxt(lines[count:][: faces[1]], np.int64, usecols=(1, 2, 3), ndmin=2)
            else:
                order = "<" if form == "binary_little_endian" else ">"
                data = _rows(file, order, fields, count)
                points = np.stack([data[fields[i][0]].astype(np.float64) for i in columns], -1)
                corners = None
                if faces is not None:
                    data = _rows(file, order, *faces)
                    if (data["corners"] == 3).all():
                        corners = np.stack([data[name] for name in "abc"], -1).astype(np.int64)
        if len(points) != count:
            raise ValueError(f"{len(points)} of {count} vertices")
        if corners is not None and not ((corners >= 0) & (corners < count)).all():
            raise ValueError("a triangle has a vertex that is not there")
    except (OSError, ValueError, LookupError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: cannot be read as a PLY file ({error}); copy it again") from error
    finite = np.asarray(np.isfinite(points).all(1))
    if corners is not None:
        corners = (np.cumsum(finite) - 1)[corners[finite[corners].all(1)]]
    return Mesh(points[finite], corners)


_Rows = tuple[list[tuple[str, str]], int]
"""(name, type) of the fields of a row, and the number of rows."""


def _rows(file, order: str, fields: list[tuple[str, str]], count: int) -> np.ndarray:
    kind = np.dtype([(name, order + code) for name, code in fields])
    data = np.frombuffer(file.read(count * kind.itemsize), kind)
    if len(data) != count:
        raise ValueError(f"{len(data)} of {count} rows")
    return data


def _header(file) -> tuple[str, _Rows, _Rows | None]:
    """(format, vertices, faces as those of triangles); vertices come first, None unless faces follow."""
    if file.readline().strip() != b"ply":
        raise ValueError("does not begin with ply")
    form, elements, counts = "", dict[str, list[tuple[str, str]]](), dict[str, int]()
    for raw in iter(file.readline, b""):
        words = raw.decode("ascii").split()
        if words[:1] == ["end_header"]:
            break
        if words[:1] == ["format"]:
            form = words[1]
        elif words[:1] == ["element"]:
            counts[words[1]], elements[words[1]] = int(words[2]), []
        elif words[:2] == ["property", "list"] and not elements[[*elements][-1]]:
            index = _TYPES[words[3]]
            elements[[*elements][-1]] = [("corners", _TYPES[words[2]]), *((name, index) for name in "abc")]
        elif words[:1] == ["property"]:
            elements[[*elements][-1]].append((words[2], _TYPES.get(words[1], "")))
    first, second = [*elements, "", ""][:2]
    if first != "vertex" or not 0 <= counts[first] < 2**40:
        raise ValueError(f"its first element is {first or 'missing'}, expected vertex")
    if not all(code for _, code in elements[first]):
        raise ValueError("a property of its vertices is no number")
    faces = None
    if second == "face" and 0 < counts[second] < 2**40:
        (name, _), *_ = others = elements[second] or [("", "")]
        faces = (others, counts[second]) if name == "corners" and all(code for _, code in others) else None
    return form, (elements[first], counts[first]), faces
