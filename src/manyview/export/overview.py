"""One image of a result: some views, their depth, and points and cameras from above and the side."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .._option_checks import check_options
from ..files.spread import evenly_spread
from .colours import by_order
from .export_format import ExportFormat, ExportTarget, PointOptions
from .frusta import FRUSTUM_EDGES, frustum_corners, frustum_size
from .images import depth_image
from .orthographic import VIEW_SIZE, OrthographicView, orthographic_views, points_raster

if TYPE_CHECKING:
    from ..reconstruction.result.points import PointCloud
    from ..reconstruction.result.result import Reconstruction

_GAP = 12
_PAPER, _INK = (255, 255, 255), (60, 66, 80)


@dataclasses.dataclass(frozen=True)
class OverviewOptions(PointOptions):
    """`overview.png`, an image for a web page or a message."""

    views: int = 6
    """Views shown, evenly spread."""
    width: int = 1400
    """Width of the image in pixels."""
    max_points: int | None = 400_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, at_least={"views": 1, "width": 64})


def _write(scene: Reconstruction, options: OverviewOptions, target: ExportTarget) -> None:
    image = overview(scene, options)
    with target.staged(3 * image.width * image.height) as stage:
        image.save(stage.file("overview.png"))


def overview(scene: Reconstruction, options: OverviewOptions) -> Image.Image:
    """The image itself."""
    cloud = options.cloud(scene)
    strip = _strip(scene, options)
    width = (options.width - 3 * _GAP) // 2
    views = orthographic_views(scene, cloud.points.astype(np.float64))
    drawings = [_drawing(view, scene, cloud, width) for view in views]
    page = Image.new("RGB", (options.width, strip.height + drawings[0].height + 3 * _GAP), _PAPER)
    page.paste(strip, (_GAP, _GAP))
    for index, drawing in enumerate(drawings):
        page.paste(drawing, (_GAP + index * (width + _GAP), strip.height + 2 * _GAP))
    return page


def _strip(scene: Reconstruction, options: OverviewOptions) -> Image.Image:
    """Views above, their depth below."""
    chosen = evenly_spread(len(scene), options.views)
    inner = options.width - 2 * _GAP
    width = (inner - (len(chosen) - 1) * _GAP) // len(chosen)
    height = round(width * scene.height / scene.width)
    strip = Image.new("RGB", (inner, 2 * height + _GAP), _PAPER)
    for column, index in enumerate(chosen):
        left = column * (width + _GAP)
        depth = depth_image(scene.z_depth[index], scene.view_valid(index))
        for row, pixels in enumerate((scene.images[index], depth)):
            image = Image.fromarray(np.ascontiguousarray(pixels))
            strip.paste(
                image.resize((width, height), Image.Resampling.BICUBIC), (left, row * (height + _GAP))
            )
    return strip


def _drawing(view: OrthographicView, scene: Reconstruction, cloud: PointCloud, width: int) -> Image.Image:
    """Points and cameras of an orthographic view, drawn at twice the size and reduced."""
    scale = 2 * width / VIEW_SIZE[0]
    size = (2 * width, round(VIEW_SIZE[1] * scale))
    page = Image.new("RGB", size, (244, 245, 248))
    dots = Image.fromarray(points_raster(view, cloud)).resize(size, Image.Resampling.NEAREST)
    page.paste(dots, (0, 0), dots)
    pen = ImageDraw.Draw(page)
    corners = view(frustum_corners(scene, frustum_size(scene, cloud.points))) * scale
    for shape, colour in zip(corners, by_order(len(scene)).tolist(), strict=True):
        for start, stop in FRUSTUM_EDGES[:8]:
            pen.line([tuple(shape[start]), tuple(shape[stop])], fill=tuple(colour), width=3)
    font = ImageFont.load_default(size=26)
    pen.text((16, 12), view.title, fill=_INK, font=font)
    return page.resize((width, size[1] // 2), Image.Resampling.LANCZOS)


FORMAT = ExportFormat("overview", "one PNG: views, depth, points and cameras", OverviewOptions, _write)
