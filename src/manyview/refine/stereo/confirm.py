"""Depth from images with exact cameras, and where other views confirm it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float32, UInt8
from PIL import Image

from ...models.device import pick_device
from ...reconstruction.inputs.in_memory import ImageInput
from ...reconstruction.result.result import Reconstruction
from .consistency import confirm
from .neighbours import choose_neighbours, inverse_depth_range, scene_points
from .options import StereoOptions
from .search import search_depth
from .views import at_stereo_size
from .warp import Cameras

STAGE = "confirm depth"


def confirm_depth(
    scene: Reconstruction,
    images: Sequence[ImageInput] | None = None,
    options: StereoOptions | None = None,
    device: str | torch.device | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Reconstruction:
    """Measure the depth of every view by multi-view stereo, and keep what several views confirm.

    Each view is compared with its best neighbours over the depths that its tracks (or, without any, its
    network depth) leave open: normalised cross-correlation of patches, from coarse to fine, made smooth by
    semi-global matching. A depth is confirmed where the depths of other views lead back to the same pixel.
    Nothing is drawn at random: the same input gives the same result on one device.

    Args:
        scene: A result with exact cameras, such as refined ones, and depth in their unit of length.
        images: One upright image a view, a path or in memory; None for the sources of the scene.
        options: See `StereoOptions`.
        device: Where to compute ("cpu", "cuda"); None for a card if there is one.
        progress: Called with (stage, done, total).

    Returns:
        The scene at the size of the options: images, cameras, tracks and transforms are those of the new
        pixels. `confirmed` says which pixels have a confirmed depth; all others keep the network's, and
        their order of confidence, below every confirmed one. Views without neighbours have none confirmed.
        Points of a point head are dropped.

    Raises:
        InputError: An image is gone, cannot be read, or is not the one that was reconstructed.
    """
    start = time.perf_counter()
    options = StereoOptions() if options is None else options
    where = pick_device("auto" if device is None else device)
    report = progress or (lambda stage, done, total: None)
    count = len(scene)
    report(STAGE, 0, 2 * count)
    scene = at_stereo_size(scene, images, options.size)
    points, seen = scene_points(scene)
    neighbours = choose_neighbours(scene, points, seen, options.neighbours)
    ranges = [inverse_depth_range(scene, points, seen[view], view) for view in range(count)]
    cameras = Cameras.of(scene)
    grey = torch.from_numpy(_grey(scene.images)).to(where)
    inverse = torch.ones(grey.shape, device=where)
    usable = torch.from_numpy(_visible(scene)).to(where)
    for view, (others, inverse_range) in enumerate(zip(neighbours, ranges)):
        if len(others) and inverse_range is not None:
            inverse[view], cost = search_depth(grey, cameras, view, others, inverse_range, options)
            usable[view] &= cost < options.most_cost
        else:
            usable[view] = False
        report(STAGE, view + 1, 2 * count)
    depth, conf = scene.z_depth.copy(), _below_one(scene.depth_conf)
    confirmed = np.zeros(depth.shape, dtype=bool)
    for view, others in enumerate(neighbours):
        if len(others):
            measured, agreeing = confirm(inverse, usable, cameras, view, others, options)
            needed = min(options.agreeing, len(others))
            good = ((agreeing >= needed) & usable[view]).cpu().numpy()
            confirmed[view] = good
            depth[view] = np.where(good, measured.cpu().numpy(), depth[view])
            conf[view] = np.where(good, 1 + agreeing.cpu().numpy(), conf[view])
        report(STAGE, count + view + 1, 2 * count)
    timings = {**scene.timings_s, STAGE: time.perf_counter() - start}
    return dataclasses.replace(
        scene, z_depth=depth, depth_conf=conf, confirmed=confirmed, timings_s=timings, quality=None
    )


def _grey(
    images: UInt8[np.ndarray, "views height width 3"],
) -> UInt8[np.ndarray, "views height width"]:
    return np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in images])


def _visible(scene: Reconstruction) -> Bool[np.ndarray, "views height width"]:
    """True where a pixel shows the image, no sky and nothing masked."""
    shown = np.stack([view.transform.content_mask() for view in scene.views])
    for hidden in (scene.sky, scene.masked):
        if hidden is not None:
            shown &= ~hidden
    return shown


def _below_one(
    conf: Float32[np.ndarray, "views height width"],
) -> Float32[np.ndarray, "views height width"]:
    """Confidence of any range in the same order from 0 to 1, not finite where it was not."""
    finite = conf[np.isfinite(conf)]
    if not finite.size:
        return conf.copy()
    low, high = float(finite.min()), float(finite.max())
    return ((conf - low) / max(high - low, 1e-12)).astype(np.float32)
