"""The report's table of views."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np

from ..files.naming import printable
from ..geometry.unproject_np import camera_centres
from .colours import by_order, css_colour
from .report_refinement import view_statuses

if TYPE_CHECKING:
    from ..reconstruction.inputs.views import ViewTransform
    from ..reconstruction.result.result import Reconstruction

_EXIF_ROTATIONS = {
    1: "", 2: "mirrored", 3: "rotated 180°", 4: "mirrored, rotated 180°", 5: "mirrored, rotated 90°",
    6: "rotated 90° clockwise", 7: "mirrored, rotated 90°", 8: "rotated 90° counter-clockwise",
}  # fmt: skip


def view_table(scene: Reconstruction) -> str:
    """One row per view: its preprocessing, field of view, focal lengths, depth and camera centre."""
    statuses = view_statuses(scene)
    head = (
        "", "#", "name", "source pixels", "preprocessing", "field of view", "focal length, px",
        "median depth", "median conf.", "camera centre", *(["camera"] if statuses else []),
    )  # fmt: skip
    colours, upright = by_order(len(scene)), scene.upright_intrinsics
    centres = camera_centres(scene.cam_from_world)
    rows = []
    for index, view in enumerate(scene.views):
        transform, camera = view.transform, upright[index]
        valid = scene.view_valid(index)
        sizes = np.array([transform.upright_width, transform.upright_height])
        fov = np.degrees(2 * np.arctan(sizes / (2 * camera[[0, 1], [0, 1]])))
        depth = f"{np.median(scene.z_depth[index][valid]):.4g}" if valid.any() else "none"
        conf = f"{np.median(scene.depth_conf[index][valid]):.3g}" if valid.any() else "none"
        cells = [
            f'<td><i class="dot" style="background:{css_colour(colours[index])}"></i></td>',
            f'<td class="number">{index + 1}</td>',
            f"<td>{html.escape(printable(view.name))}</td>",
            f'<td class="number">{transform.upright_width} × {transform.upright_height}</td>',
            f"<td>{describe_transform(transform)}</td>",
            f'<td class="number">{fov[0]:.1f}° × {fov[1]:.1f}°</td>',
            f'<td class="number">{camera[0, 0]:.0f}, {camera[1, 1]:.0f}</td>',
            f'<td class="number">{depth}</td>',
            f'<td class="number">{conf}</td>',
            f'<td class="number">{", ".join(f"{value:.3f}" for value in centres[index])}</td>',
            *([f"<td>{html.escape(statuses.get(view.name, ''))}</td>"] if statuses else []),
        ]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    header = "".join(f"<th>{name}</th>" for name in head)
    table = f"<table><thead><tr>{header}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def describe_transform(transform: ViewTransform) -> str:
    """The preprocessing of a view in words, such as "rotated 90° clockwise, scaled by 0.25, cropped"."""
    left, top, right, bottom = transform.content_box
    padded = (right - left, bottom - top) != (transform.network_width, transform.network_height)
    scale = f"{transform.scale_x:.4g}"
    if abs(transform.scale_x / transform.scale_y - 1) > 1e-3:
        scale += f" × {transform.scale_y:.4g}"
    steps = [
        _EXIF_ROTATIONS.get(transform.orientation, f"orientation {transform.orientation}"),
        f"scaled by {scale}",
        "cropped" if transform.cropped else "",
        "padded" if padded else "",
    ]
    return ", ".join(step for step in steps if step)
