"""Whether the depth of one view is what another view sees from its own place."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from ...geometry.unproject_np import project, unproject
from .sampled import SampledViews

TOLERANCE = 0.05
"""Relative difference up to which two depths of one point agree."""
FAR = 1e6
"""Distance in network pixels of a point that comes back behind the camera."""


@dataclasses.dataclass(frozen=True, eq=False)
class DepthAgreement:
    """One number a view; NaN where nothing could be compared.

    Attributes:
        confirmed: share of its pixels whose depth some other view confirms within 5 %; 0 without one.
        agreeing: of all places where another view sees such a pixel, share where the depths agree within
            5 %.
        reprojection: median distance in network pixels to the same pixel, by way of another view's depth.
        parallax_deg: median angle between the rays of the view and of those that it is compared with.
    """

    confirmed: Float[np.ndarray, " views"]
    agreeing: Float[np.ndarray, " views"]
    reprojection: Float[np.ndarray, " views"]
    parallax_deg: Float[np.ndarray, " views"]


def depth_agreement(views: SampledViews, neighbours: Sequence[Int[np.ndarray, " _"]]) -> DepthAgreement:
    """Compare every view with its neighbours."""
    return DepthAgreement(*np.array([_compare(views, *pair) for pair in enumerate(neighbours)]).T)


def _compare(
    views: SampledViews, place: int, others: Int[np.ndarray, " k"]
) -> tuple[float, float, float, float]:
    sample = views.samples[place]
    if not len(others) or not len(sample.points):
        return 0.0, np.nan, np.nan, np.nan
    cameras, matrices, lenses = views.cameras[others], views.intrinsics[others], views.lens(others)
    pixels, z = project(sample.points[None], cameras, matrices, lenses)
    depth = np.stack([views.depth_at(other, at + views.offset) for other, at in zip(others.tolist(), pixels)])
    seen = np.isfinite(depth)
    with np.errstate(invalid="ignore"):
        agrees = np.abs(z - depth) <= TOLERANCE * depth
    parallax = float(np.median(views.parallax_deg(place, sample.points, others)))
    if not seen.any():
        return 0.0, np.nan, np.nan, parallax
    points = unproject(np.nan_to_num(pixels), depth, cameras, matrices, distortion=lenses)
    again, _ = project(points, views.cameras[place], views.intrinsics[place], views.lens(place))
    distance = np.linalg.norm(again + views.offset - sample.pixels, axis=-1)[seen]
    return (
        float(agrees.any(0).mean()),
        float(agrees.sum() / seen.sum()),
        float(np.median(np.nan_to_num(distance, nan=FAR))),
        parallax,
    )
