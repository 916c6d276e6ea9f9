"""PLY: the point cloud, and the cameras as a mesh of frusta. Binary, read by every 3D program."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int, UInt8

from .export_format import ExportFormat, ExportTarget, PointOptions
from .frusta import frustum_mesh, frustum_size

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction


@dataclasses.dataclass(frozen=True)
class PlyOptions(PointOptions):
    """`points.ply` (x y z red green blue confidence) and `cameras.ply`, both in the axes of the result."""

    max_points: int | None = 2_000_000
    cameras: bool = True
    """Also write the cameras, as frusta coloured from blue (first view) to red (last)."""


def _write(scene: Reconstruction, options: PlyOptions, target: ExportTarget) -> None:
    cloud = options.cloud(scene)
    needed = len(cloud) * 19 + len(scene) * 2000 + 1000
    with target.staged(needed) as stage:
        write_ply(stage.file("points.ply"), cloud.points, cloud.colours, confidence=cloud.confidence)
        if options.cameras:
            vertices, triangles, colours = frustum_mesh(scene, frustum_size(scene, cloud.points))
            write_ply(stage.file("cameras.ply"), vertices, colours, triangles=triangles)


FORMAT = ExportFormat("ply", "point cloud and cameras: MeshLab, CloudCompare, Blender", PlyOptions, _write)


def write_ply(
    path: Path,
    points: Float[np.ndarray, "n 3"],
    colours: UInt8[np.ndarray, "n 3"],
    *,
    confidence: Float[np.ndarray, " n"] | None = None,
    triangles: Int[np.ndarray, "m 3"] | None = None,
) -> None:
    """Write coloured vertices, and triangles if given, as little-endian binary PLY with float32 positions."""
    fields = [(axis, "<f4") for axis in "xyz"] + [(name, "u1") for name in ("red", "green", "blue")]
    columns = [*points.T, *colours.T]
    if confidence is not None:
        fields.append(("confidence", "<f4"))
        columns.append(confidence)
    vertices = np.rec.fromarrays(columns, dtype=fields)
    kinds = {"<f4": "float", "u1": "uchar"}
    lines = ["ply", "format binary_little_endian 1.0", "comment ManyView", f"element vertex {len(points)}"]
    lines += [f"property {kinds[kind]} {name}" for name, kind in fields]
    if triangles is not None:
        lines += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    with path.open("wb") as file:
        file.write(("\n".join([*lines, "end_header"]) + "\n").encode())
        file.write(vertices.tobytes())
        if triangles is not None:
            faces = np.empty(len(triangles), dtype=[("count", "u1"), ("index", "<i4", 3)])
            faces["count"] = 3
            faces["index"] = triangles
            file.write(faces.tobytes())
