"""GLB: points and cameras in one file for browsers, Blender and phones (glTF 2.0: Y up, -Z forward)."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import MissingExtraError
from .frusta import frustum_mesh, frustum_size
from .staging import staged_export

if TYPE_CHECKING:
    from ..reconstruction.result.result import Reconstruction

# OpenCV (y down, z forward) to glTF (y up, z backward): a half turn about x.
GLTF_FROM_OPENCV = np.diag([1.0, -1.0, -1.0])


@dataclasses.dataclass(frozen=True)
class GlbOptions:
    """`scene.glb`: the confident points and the cameras as coloured frusta."""

    min_conf_percentile: float = 50.0
    """Leave out the least confident points: this percentile of all valid pixels."""
    max_points: int | None = 1_000_000
    """At most this many points, chosen at random; None for all."""
    drop_edges: float | None = 0.1
    """Leave out pixels whose depth differs by more than this share from a neighbour's; None keeps them."""
    cameras: bool = True
    """Draw the cameras, coloured from blue (first view) to red (last)."""


def export_glb(
    scene: Reconstruction,
    out_dir: str | Path,
    options: GlbOptions | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write `scene.glb`. Raises MissingExtraError without trimesh."""
    options = options or GlbOptions()
    try:
        import trimesh
    except ImportError as error:
        raise MissingExtraError("The GLB export", "mesh") from error
    cloud = scene.point_cloud(options.min_conf_percentile, options.max_points, drop_edges=options.drop_edges)
    model = trimesh.Scene()
    if len(cloud):
        model.add_geometry(
            trimesh.PointCloud(cloud.points @ GLTF_FROM_OPENCV, colors=cloud.colours), geom_name="points"
        )
    if options.cameras:
        vertices, triangles, colours = frustum_mesh(scene, frustum_size(scene, cloud.points))
        mesh = trimesh.Trimesh(vertices @ GLTF_FROM_OPENCV, triangles, vertex_colors=colours, process=False)
        model.add_geometry(mesh, geom_name="cameras")
    content = model.export(file_type="glb")
    with staged_export(
        scene, out_dir, "glb", options, needed_bytes=len(content) + 1000, overwrite=overwrite
    ) as stage:
        stage.file("scene.glb").write_bytes(content)
    return stage.written
