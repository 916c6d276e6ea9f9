"""Measured depth in the pixels of the network's images, and the order in which a run took the pictures."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..datasets import PosedSet
from ..errors import InputError
from ..files.naming import printable
from ..geometry.unproject_np import unproject
from ..reconstruction.inputs.views import ViewRecord, ViewTransform


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


def sampled_places(
    transform: ViewTransform, rows: int, columns: int
) -> tuple[Int[np.ndarray, " height"], Int[np.ndarray, " width"]]:
    """Row and column under each network pixel's centre, in a map of this shape over the whole picture."""
    x = (np.arange(transform.network_width) + 0.5 - transform.offset_x) / transform.scale_x
    y = (np.arange(transform.network_height) + 0.5 - transform.offset_y) / transform.scale_y
    column = np.floor(x * columns / transform.upright_width).astype(int).clip(0, columns - 1)
    row = np.floor(y * rows / transform.upright_height).astype(int).clip(0, rows - 1)
    return row, column


def depth_at_network_pixels(
    depth: np.ndarray | None, transform: ViewTransform
) -> Float[Tensor, "height width"]:
    """Depth of a picture (or None) under the centre of each network pixel, the nearest value; NaN on padding.

    A depth picture of another size than the picture is taken to show the same field of view.
    """
    if depth is None:
        return torch.full((transform.network_height, transform.network_width), torch.nan)
    row, column = sampled_places(transform, *depth.shape)
    sampled = np.where(transform.content_mask(), depth[np.ix_(row, column)], np.nan)
    return torch.from_numpy(sampled.astype(np.float32))


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
        row, column = sampled_places(transform, rows, columns)
        depth = np.where(transform.content_mask(), depth[np.ix_(row, column)], np.nan)
    x = (column + 0.5) * transform.upright_width / columns
    y = (row + 0.5) * transform.upright_height / rows
    pixels = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    points = unproject(pixels, depth.ravel(), cam_from_world, intrinsics)
    return points.reshape(*depth.shape, 3).astype(np.float32)
