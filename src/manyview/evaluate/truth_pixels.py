"""Measured depth in the pixels of the network's images, and the order in which a run took the pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from ..datasets import PosedSet
from ..errors import InputError
from ..files.naming import printable
from ..geometry.unproject_np import unproject
from ..reconstruction.inputs.views import ViewRecord, ViewTransform, sampled_pixels


def in_network_order(posed: PosedSet, records: Sequence[ViewRecord]) -> list[int]:
    """The set's index of each view of a run. InputError for a picture that its EXIF tag turns."""
    given = {printable(os.path.abspath(path)): index for index, path in enumerate(posed.images)}
    turned = [record.name for record in records if record.transform.orientation != 1]
    if turned:
        raise InputError(
            f"{turned[0]}: its EXIF tag turns the picture, but its camera is that of the stored pixels; "
            "remove the tag from the pictures of this set"
        )
    return [given[record.source] for record in records]


def true_points(
    depth: Float[np.ndarray, "rows columns"],
    cam_from_world: Float[np.ndarray, "3 4"],
    intrinsics: Float[np.ndarray, "3 3"],
    transform: ViewTransform,
    at_network: bool,
) -> Float[np.ndarray, "height width 3"]:
    """World points of a depth map, NaN where there is no depth: all of them, or those under network pixels.

    `intrinsics` are in pixels of the picture, whose field of view the depth map shares. The ray is that of
    the depth pixel itself, so sampling moves no point.
    """
    rows, columns = depth.shape
    row, column = np.arange(rows), np.arange(columns)
    if at_network:
        row, column = sampled_pixels(transform, rows, columns)
        depth = np.where(transform.content_mask(), depth[np.ix_(row, column)], np.nan)
    x = (column + 0.5) * transform.upright_width / columns
    y = (row + 0.5) * transform.upright_height / rows
    pixels = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    points = unproject(pixels, depth.ravel(), cam_from_world, intrinsics)
    return points.reshape(*depth.shape, 3).astype(np.float32)
