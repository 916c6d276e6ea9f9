"""Orthographic top and side view of points and cameras: points as a raster, cameras as SVG on top."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from ..geometry.unproject_np import camera_centres
from .colours import by_order, css_colour
from .frusta import frustum_corners
from .images import data_uri

if TYPE_CHECKING:
    from ..reconstruction.result.points import PointCloud
    from ..reconstruction.result.result import Reconstruction

_WIDTH, _HEIGHT = VIEW_SIZE = 900, 620
# Outliers would shrink the scene to a dot: the view covers these percentiles of the points, and all cameras.
_SHOWN_PERCENTILES = (1.5, 98.5)
_MARGIN = 0.06


@dataclasses.dataclass(frozen=True, eq=False)
class OrthographicView:
    """A 2x4 affine map from the world to the pixels of an image of `VIEW_SIZE` (width, height)."""

    title: str
    pixel_from_world: Float[np.ndarray, "2 4"]
    pixels_per_unit: float

    def __call__(self, points: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 2"]:
        """Pixels of world points."""
        return points @ self.pixel_from_world[:, :3].T + self.pixel_from_world[:, 3]


def scene_axes(scene: Reconstruction, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "3 3"]:
    """Rows: right (the longest horizontal direction of the scene), ahead, and up."""
    up = estimate_up(scene.cam_from_world)
    everything = np.concatenate([camera_centres(scene.cam_from_world), points])
    flat = everything - everything.mean(axis=0)
    flat -= np.outer(flat @ up, up)
    right = np.linalg.svd(flat.T @ flat)[0][:, 0]
    right -= up * (right @ up)
    if np.linalg.norm(right) < 1e-6:
        right = scene.cam_from_world[0, 0, :3] - up * (scene.cam_from_world[0, 0, :3] @ up)
    right /= np.linalg.norm(right)
    # Seen from above, the first camera should look up the page rather than down.
    ahead = np.cross(up, right)
    if ahead @ scene.cam_from_world[0, 2, :3] < 0:
        right, ahead = -right, -ahead
    return np.stack([right, ahead, up])


def estimate_up(cam_from_world: Float[np.ndarray, "views 3 4"]) -> Float[np.ndarray, " 3"]:
    """Unit vector against gravity, assuming level cameras: their x axes are horizontal.

    If all x axes are parallel, the mean y axis of the cameras decides.
    """
    mean_up = -cam_from_world[:, 1, :3].mean(axis=0)
    if np.linalg.norm(mean_up) < 0.2:  # rolled in every direction: nothing in common
        mean_up = -cam_from_world[0, 1, :3]
    _, spread, axes = np.linalg.svd(cam_from_world[:, 0, :3])
    level = len(cam_from_world) > 1 and spread[1] > 0.2 * np.sqrt(len(cam_from_world))
    up = axes[2] * np.sign(axes[2] @ mean_up) if level else mean_up - axes[0] * (axes[0] @ mean_up)
    length = float(np.linalg.norm(up))
    return up / length if length > 0.1 else mean_up / np.linalg.norm(mean_up)


def orthographic_views(
    scene: Reconstruction, points: Float[np.ndarray, "n 3"]
) -> tuple[OrthographicView, OrthographicView]:
    """The top view (right, ahead) and the side view (right, up)."""
    axes = scene_axes(scene, points)
    return (
        _fit_view("Top view", axes[[0, 1]], scene, points),
        _fit_view("Side view", axes[[0, 2]], scene, points),
    )


def _fit_view(
    title: str, axes: Float[np.ndarray, "2 3"], scene: Reconstruction, points: Float[np.ndarray, "n 3"]
) -> OrthographicView:
    centres = camera_centres(scene.cam_from_world) @ axes.T
    low, high = centres.min(axis=0), centres.max(axis=0)
    if len(points):
        shown = np.percentile(points @ axes.T, _SHOWN_PERCENTILES, axis=0)
        low, high = np.minimum(low, shown[0]), np.maximum(high, shown[1])
    span = np.maximum(high - low, 1e-6 * max(float(np.abs(high).max()), 1.0))
    scale = float(min(_WIDTH / span[0], _HEIGHT / span[1]) * (1 - 2 * _MARGIN))
    middle = (low + high) / 2
    # The page's y axis points down.
    linear = scale * axes * np.array([[1.0], [-1.0]])
    offset = np.array([_WIDTH / 2 - scale * middle[0], _HEIGHT / 2 + scale * middle[1]])
    return OrthographicView(title, np.column_stack([linear, offset]), scale)


def points_raster(view: OrthographicView, cloud: PointCloud) -> UInt8[np.ndarray, "height width 4"]:
    """RGBA: the mean colour of the points on each cell, more opaque where there are more of them.

    The image has `VIEW_SIZE`, or a half or a quarter of it when there are few points.
    """
    cell = next((size for size in (1, 2) if len(cloud) * size**2 > 0.2 * _WIDTH * _HEIGHT), 4)
    width, height = _WIDTH // cell, _HEIGHT // cell
    cells = view(cloud.points.astype(np.float64)) / cell
    inside = (cells >= 0).all(1) & (cells[:, 0] < width) & (cells[:, 1] < height)
    columns, rows = cells[inside].astype(np.int64).T
    flat = rows * width + columns
    counts = np.bincount(flat, minlength=width * height).astype(np.float64)
    colours = cloud.colours[inside]
    sums = [np.bincount(flat, weights=colours[:, channel], minlength=len(counts)) for channel in range(3)]
    rgb = np.stack(sums, axis=-1) / np.maximum(counts, 1)[:, None]
    typical = np.median(counts[counts > 0]) if counts.any() else 1.0
    alpha = 255 * (1 - np.exp(-1.2 * counts / typical))
    return np.column_stack([rgb, alpha]).round().astype(np.uint8).reshape(height, width, 4)


def view_svg(view: OrthographicView, scene: Reconstruction, cloud: PointCloud, size: float) -> str:
    """The view as inline SVG, with frusta of depth `size`."""
    colours = [css_colour(colour) for colour in by_order(len(scene))]
    corners = view(frustum_corners(scene, size))
    centres = corners[:, 0]
    points = " ".join(f"{x:.1f},{y:.1f}" for x, y in centres)
    parts = [
        f'<svg class="plan" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{view.title}">',
        f'<image href="{data_uri(points_raster(view, cloud))}" width="{_WIDTH}" height="{_HEIGHT}" '
        'preserveAspectRatio="none"/>',
        f'<polyline class="path" points="{points}"/>',
    ]
    for colour, corner in zip(colours, corners, strict=True):
        apex, *rim = (f"{x:.1f} {y:.1f}" for x, y in corner[:5])
        rays = " ".join(f"M{apex}L{tip}" for tip in rim)
        parts.append(f'<path class="frustum" stroke="{colour}" d="{rays} M{"L".join(rim)}Z"/>')
    for index, word in {0: "first", len(scene) - 1: "last"}.items():
        x, y = centres[index]
        label = word if len(scene) > 1 else "camera"
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" fill="{colours[index]}"/>')
        side, anchor = (-9, "end") if x > 0.9 * _WIDTH else (9, "start")
        parts.append(
            f'<text class="label" text-anchor="{anchor}" x="{x + side:.1f}" y="{y - 7:.1f}">{label}</text>'
        )
    return "".join([*parts, _scale_bar(view.pixels_per_unit), "</svg>"])


def _scale_bar(pixels_per_unit: float) -> str:
    """1, 2 or 5 times a power of ten units, about a sixth of the width."""
    wanted = _WIDTH / 6 / pixels_per_unit
    power = 10.0 ** np.floor(np.log10(wanted))
    units = max(step for step in (power, 2 * power, 5 * power) if step <= wanted)
    end = 24 + units * pixels_per_unit
    base = _HEIGHT - 22
    return (
        f'<path class="scale" d="M24 {base - 5}V{base}H{end:.1f}V{base - 5}"/>'
        f'<text class="label" x="24" y="{base - 10}">{units:g} unit{"" if units == 1 else "s"}</text>'
    )
