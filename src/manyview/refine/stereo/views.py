"""The images that stereo works on, and what the network found, on one grid of pixels."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, UInt8
from PIL import Image

from ...errors import InputError
from ...reconstruction.inputs.in_memory import ImageInput, decode_input
from ...reconstruction.inputs.preprocess import paste_on_canvas, plan_view, render_view, shared_canvas
from ...reconstruction.inputs.views import ViewTransform
from ...reconstruction.result.result import Reconstruction
from ...reconstruction.result.tracks import Tracks


def at_stereo_size(scene: Reconstruction, images: Sequence[ImageInput] | None, size: int) -> Reconstruction:
    """The scene on a grid of `size` pixels of the longer side, images read again from their sources.

    Depth, confidence and flags are those of the nearest network pixel; depth and confidence are NaN where
    the network saw nothing. A scene whose images are as large already, or were never larger, comes back as
    it is, with depth along pixel centres.

    Args:
        scene: Any result.
        images: One upright image a view, a path or in memory; None for the sources of the scene.
        size: Longer side in pixels.

    Raises:
        InputError: An image is gone, cannot be read, or has other sides than when it was reconstructed.
    """
    largest = max(max(v.transform.upright_width, v.transform.upright_height) for v in scene.views)
    shown = max(min(size, largest), 1)
    if max(scene.height, scene.width) >= shown:
        return dataclasses.replace(scene, pixel_centres="half", head_points=None, head_points_conf=None)
    if images is not None and len(images) != len(scene):
        raise InputError(f"{len(images)} images were given for {len(scene)} views; give one for each view")
    with tempfile.TemporaryDirectory() as folder:
        if images is None:
            scene.write_source_images(Path(folder))
            images = [Path(folder) / name for name in scene.source_image_names]
        plans = [_planned(view.transform, shown) for view in scene.views]
        height, width = shared_canvas(plans, "fit")
        pixels = np.empty((len(scene), height, width, 3), dtype=np.uint8)
        transforms = []
        for index, (image, plan) in enumerate(zip(images, plans)):
            canvas, transform = _rendered(image, scene.names[index], plan, height, width)
            pixels[index] = canvas
            transforms.append(transform)
    return _moved(scene, pixels, transforms)


def _planned(transform: ViewTransform, size: int) -> ViewTransform:
    width, height = transform.upright_width, transform.upright_height
    return plan_view(width, height, "fit", size, 1, transform.orientation)


def _rendered(
    image: ImageInput, name: str, plan: ViewTransform, height: int, width: int
) -> tuple[UInt8[np.ndarray, "height width 3"], ViewTransform]:
    upright: Image.Image = decode_input(image, name).image
    if upright.size != (plan.upright_width, plan.upright_height):
        raise InputError(
            f"the image of view {name!r} is {upright.width}x{upright.height} pixels, but was "
            f"{plan.upright_width}x{plan.upright_height} when it was reconstructed; give the same image"
        )
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    transform = paste_on_canvas(canvas, render_view(upright, plan, "fit"), plan)
    return canvas, transform


def _moved(
    scene: Reconstruction,
    pixels: UInt8[np.ndarray, "views height width 3"],
    transforms: Sequence[ViewTransform],
) -> Reconstruction:
    """The scene with other images of the same views."""
    maps = [
        new.network_from_upright @ np.linalg.inv(view.transform.network_from_upright)
        for view, new in zip(scene.views, transforms)
    ]
    shape = pixels.shape[:3]
    depth, conf = np.full(shape, np.nan, np.float32), np.full(shape, np.nan, np.float32)
    flags: dict[str, Any] = {
        name: np.zeros(shape, dtype=bool)
        for name in ("sky", "masked", "confirmed")
        if getattr(scene, name) is not None
    }
    for index, new_from_old in enumerate(maps):
        row, column, inside = _nearest(scene.views[index].transform, new_from_old, shape[1:])
        where = np.ix_(row, column)
        depth[index] = np.where(inside, scene.z_depth[index][where], np.nan)
        conf[index] = np.where(inside, scene.depth_conf[index][where], np.nan)
        for name, flag in flags.items():
            flag[index] = getattr(scene, name)[index][where] & inside
    return dataclasses.replace(
        scene,
        images=pixels,
        intrinsics=np.stack(maps) @ scene.intrinsics,
        z_depth=depth,
        depth_conf=conf,
        views=tuple(dataclasses.replace(v, transform=t) for v, t in zip(scene.views, transforms)),
        pixel_centres="half",
        head_points=None,
        head_points_conf=None,
        tracks=None if scene.tracks is None else _moved_tracks(scene.tracks, np.stack(maps)),
        **flags,
    )


def _nearest(
    transform: ViewTransform, new_from_old: Float64[np.ndarray, "3 3"], size: tuple[int, ...]
) -> tuple[Int[np.ndarray, " height"], Int[np.ndarray, " width"], np.ndarray]:
    """(row, column) of the old pixel under each new one, and whether it shows the image."""
    left, top, right, bottom = transform.content_box
    y = np.floor((np.arange(size[0]) + 0.5 - new_from_old[1, 2]) / new_from_old[1, 1]).astype(int)
    x = np.floor((np.arange(size[1]) + 0.5 - new_from_old[0, 2]) / new_from_old[0, 0]).astype(int)
    # Rounding of the network's size may leave the last new pixel a fraction of an old one outside.
    row_inside, column_inside = (y >= top - 1) & (y <= bottom), (x >= left - 1) & (x <= right)
    inside = row_inside[:, None] & column_inside[None]
    return y.clip(top, bottom - 1), x.clip(left, right - 1), inside


def _moved_tracks(tracks: Tracks, new_from_old: Float64[np.ndarray, "views 3 3"]) -> Tracks:
    maps = new_from_old[tracks.view_index]
    pixels = tracks.pixels * maps[:, [0, 1], [0, 1]] + maps[:, :2, 2]
    return dataclasses.replace(tracks, pixels=pixels)
