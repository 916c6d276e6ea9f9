"""One picture of a result: some views, their depth, and points and cameras from above and the side."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .colours import by_order
from .frusta import frustum_corners, frustum_size
from .report_charts import depth_picture
from .report_plans import PLAN_SIZE, Plan, make_plans, points_raster
from .staging import staged_export

if TYPE_CHECKING:
    from ..reconstruction.result.points import PointCloud
    from ..reconstruction.result.result import Reconstruction

_GAP = 12
_PAPER, _INK = (255, 255, 255), (60, 66, 80)
# Corner pairs of a frustum: from the centre to the four corners, and around the picture.
_EDGES = ((0, 1), (0, 2), (0, 3), (0, 4), (1, 2), (2, 3), (3, 4), (4, 1))


@dataclasses.dataclass(frozen=True)
class OverviewOptions:
    """`overview.png`: what a page or a message needs to show what came out."""

    views: int = 6
    """Views in the strip, evenly chosen."""
    width: int = 1400
    """Of the picture, in pixels."""
    min_conf_percentile: float = 50.0
    """Points below this percentile of confidence are left out."""
    max_points: int = 400_000
    """At most this many points are drawn."""


def export_overview(
    scene: Reconstruction,
    out_dir: str | Path,
    options: OverviewOptions | None = None,
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write `overview.png`."""
    options = options or OverviewOptions()
    picture = overview(scene, options)
    needed = 3 * picture.width * picture.height
    with staged_export(
        scene, out_dir, "overview", options, needed_bytes=needed, overwrite=overwrite
    ) as stage:
        picture.save(stage.file("overview.png"))
    return stage.written


def overview(scene: Reconstruction, options: OverviewOptions) -> Image.Image:
    """The picture itself."""
    cloud = scene.point_cloud(options.min_conf_percentile, options.max_points, drop_edges=0.1)
    strip = _strip(scene, options)
    plan_width = (options.width - 3 * _GAP) // 2
    drawings = [
        _drawing(plan, scene, cloud, plan_width)
        for plan in make_plans(scene, cloud.points.astype(np.float64))
    ]
    page = Image.new("RGB", (options.width, strip.height + drawings[0].height + 3 * _GAP), _PAPER)
    page.paste(strip, (_GAP, _GAP))
    for index, drawing in enumerate(drawings):
        page.paste(drawing, (_GAP + index * (plan_width + _GAP), strip.height + 2 * _GAP))
    return page


def _strip(scene: Reconstruction, options: OverviewOptions) -> Image.Image:
    """Views above, their depth below."""
    count = min(options.views, len(scene))
    chosen = np.unique(np.linspace(0, len(scene) - 1, count).round().astype(int)).tolist()
    inner = options.width - 2 * _GAP
    width = (inner - (len(chosen) - 1) * _GAP) // len(chosen)
    height = round(width * scene.height / scene.width)
    strip = Image.new("RGB", (inner, 2 * height + _GAP), _PAPER)
    for column, index in enumerate(chosen):
        left = column * (width + _GAP)
        depth = depth_picture(scene.z_depth[index], scene.view_valid(index))
        for row, pixels in enumerate((scene.images[index], depth)):
            image = Image.fromarray(np.ascontiguousarray(pixels))
            strip.paste(
                image.resize((width, height), Image.Resampling.BICUBIC), (left, row * (height + _GAP))
            )
    return strip


def _drawing(plan: Plan, scene: Reconstruction, cloud: PointCloud, width: int) -> Image.Image:
    """Points and cameras of one orthographic view, drawn at twice the size and reduced."""
    scale = 2 * width / PLAN_SIZE[0]
    size = (2 * width, round(PLAN_SIZE[1] * scale))
    page = Image.new("RGB", size, (244, 245, 248))
    dots = Image.fromarray(points_raster(plan, cloud)).resize(size, Image.Resampling.NEAREST)
    page.paste(dots, (0, 0), dots)
    pen = ImageDraw.Draw(page)
    corners = plan(frustum_corners(scene, frustum_size(scene, cloud.points))) * scale
    for shape, colour in zip(corners, by_order(len(scene)).tolist(), strict=True):
        for start, stop in _EDGES:
            pen.line([tuple(shape[start]), tuple(shape[stop])], fill=tuple(colour), width=3)
    font = ImageFont.load_default(size=26)
    pen.text((16, 12), plan.title, fill=_INK, font=font)
    return page.resize((width, size[1] // 2), Image.Resampling.LANCZOS)
