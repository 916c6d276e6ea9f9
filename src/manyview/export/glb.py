"""GLB: points and cameras in one file for browsers, Blender and phones.

glTF 2.0: Y up, -Z forward; colours of vertices are linear (section 3.7.2.1), those of images are sRGB.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from ..errors import optional_module
from .export_format import ExportFormat, ExportTarget, PointOptions
from .frusta import frustum_mesh, frustum_size

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# OpenCV (y down, z forward) to glTF (y up, z backward): a half turn about x.
GLTF_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])


@dataclasses.dataclass(frozen=True)
class GlbOptions(PointOptions):
    """`scene.glb`: the confident points and the cameras as coloured frusta."""

    max_points: int | None = 1_000_000
    cameras: bool = True
    """Draw the cameras, coloured from blue (first view) to red (last)."""


def _write(scene: Reconstruction, options: GlbOptions, target: ExportTarget) -> None:
    trimesh = optional_module("trimesh", "The GLB export", "mesh")
    cloud = options.cloud(scene)
    model = trimesh.Scene()
    if len(cloud):
        model.add_geometry(
            trimesh.PointCloud(cloud.points @ GLTF_FROM_OPENCV, colors=linear_bytes(cloud.colours)),
            geom_name="points",
        )
    if options.cameras:
        vertices, triangles, colours = frustum_mesh(scene, frustum_size(scene, cloud.points))
        mesh = trimesh.Trimesh(
            vertices @ GLTF_FROM_OPENCV, triangles, vertex_colors=linear_bytes(colours), process=False
        )
        model.add_geometry(mesh, geom_name="cameras")
    content = model.export(file_type="glb")
    with target.staged(len(content) + 1000) as stage:
        stage.file("scene.glb").write_bytes(content)


def linear_bytes(srgb: UInt8[np.ndarray, "n 3"]) -> UInt8[np.ndarray, "n 3"]:
    """Linear light of sRGB colours (IEC 61966-2-1), as bytes, which is all that trimesh writes."""
    share = np.arange(256) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    return (255 * linear).round().astype(np.uint8)[srgb]


FORMAT = ExportFormat("glb", "points and cameras in one file: browsers, Blender, phones", GlbOptions, _write)
