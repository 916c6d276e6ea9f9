"""Depth from images with exact cameras, and where other views confirm it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int, UInt8
from PIL import Image
from torch import Tensor

from ...models.device import pick_device
from ...reconstruction.inputs.in_memory import ImageInput
from ...reconstruction.result.result import Reconstruction
from .consistency import agreeing_views, seen_from_others
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
    scene = at_stereo_size(scene, images, options.size)
    stereo = _Stereo.of(scene, options, where)
    total, done = 2 * options.looks * len(scene), 0
    inverse = torch.ones(scene.z_depth.shape, device=where)
    confirmed = torch.zeros_like(inverse, dtype=torch.bool)
    count = torch.zeros_like(inverse, dtype=torch.int32)
    for look in range(options.looks):
        found, usable = inverse.clone(), confirmed.clone()
        for view in range(len(scene)):
            found[view], usable[view] = stereo.search(view, inverse, confirmed if look else None)
            done += 1
            if progress is not None:
                progress(STAGE, done, total)
        for view in range(len(scene)):
            inverse[view], confirmed[view], count[view] = stereo.confirm(view, found, usable)
            done += 1
            if progress is not None:
                progress(STAGE, done, total)
    good = confirmed.cpu().numpy()
    return dataclasses.replace(
        scene,
        z_depth=np.where(good, (1 / inverse).cpu().numpy(), scene.z_depth),
        depth_conf=np.where(good, 1 + count.cpu().numpy(), _below_one(scene.depth_conf)).astype(np.float32),
        confirmed=good,
        timings_s={**scene.timings_s, STAGE: time.perf_counter() - start},
        quality=None,
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Stereo:
    """What a search of every view needs."""

    grey: UInt8[Tensor, "views height width"]
    visible: Bool[Tensor, "views height width"]
    cameras: Cameras
    neighbours: list[Int[np.ndarray, " _"]]
    ranges: list[tuple[float, float] | None]
    options: StereoOptions

    @classmethod
    def of(cls, scene: Reconstruction, options: StereoOptions, device: torch.device) -> _Stereo:
        points, seen = scene_points(scene)
        most = max(options.neighbours, options.witnesses)
        return cls(
            torch.from_numpy(_grey(scene.images)).to(device),
            torch.from_numpy(_visible(scene)).to(device),
            Cameras.of(scene),
            choose_neighbours(scene, points, seen, most),
            [inverse_depth_range(scene, points, seen[view], view) for view in range(len(scene))],
            options,
        )

    def search(
        self,
        view: int,
        inverse: Float[Tensor, "views height width"],
        confirmed: Bool[Tensor, "views height width"] | None,
    ) -> tuple[Float[Tensor, "height width"], Bool[Tensor, "height width"]]:
        """(inverse depth; where it may be used); a second look is around what others confirmed."""
        others, inverse_range = self.neighbours[view][: self.options.neighbours], self.ranges[view]
        if not len(others) or inverse_range is None:
            return inverse[view], torch.zeros_like(self.visible[view])
        start = None
        if confirmed is not None:
            nearest = seen_from_others(inverse, confirmed, self.cameras, view, self.neighbours[view])
            start = torch.where(confirmed[view] | (nearest == 0), inverse[view], nearest)
        found, cost = search_depth(self.grey, self.cameras, view, others, inverse_range, self.options, start)
        return found, self.visible[view] & (cost < self.options.most_cost)

    def confirm(
        self,
        view: int,
        inverse: Float[Tensor, "views height width"],
        usable: Bool[Tensor, "views height width"],
    ) -> tuple[Float[Tensor, "height width"], Bool[Tensor, "height width"], Int[Tensor, "height width"]]:
        """(inverse depth, averaged where confirmed; confirmed; how many others agree)."""
        others = self.neighbours[view][: self.options.witnesses]
        if not len(others):
            return (
                inverse[view],
                torch.zeros_like(usable[view]),
                torch.zeros_like(inverse[view], dtype=torch.int32),
            )
        depth, count = agreeing_views(inverse, usable, self.cameras, view, others, self.options)
        confirmed = usable[view] & (count >= min(self.options.agreeing, len(others)))
        return torch.where(confirmed, 1 / depth, inverse[view]), confirmed, count


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
