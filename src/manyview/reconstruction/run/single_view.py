"""What a network of single views (Depth Anything 3, metric) adds to a result: metres, and where the sky is.

Depth in metres is the network's output times focal length / 300, the focal length in pixels of its own input
(Depth Anything 3, arXiv 2511.10647, section on metric depth). One factor for the whole result is the median
over some views of each view's median ratio of metric depth to the result's own.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float32
from PIL import Image

from ...errors import UsageError
from ...files.naming import counted
from ...files.spread import evenly_spread
from ...models.load import required_network
from ...models.network import Network
from ...models.run_options import RunOptions
from ..inputs.preprocess import plan_view, render_view
from ..result.result import Reconstruction
from .progress import ProgressCallback

WIDEST_SPREAD = 1.3
"""Upper over lower quartile of the ratios above which depth and metric depth have not the same shape."""
_LEAST_METRES = 0.01
_LEAST_PIXELS = 100


@dataclasses.dataclass(frozen=True, eq=False)
class SingleView:
    """What a run adds to its result by a network of single views."""

    network: Network
    metric: bool
    sky: bool

    @classmethod
    def wanted(cls, metric: bool, sky: bool, model: Network | str | Path) -> SingleView | None:
        """None if neither is wanted; loads the network. Raises UsageError, and what `load` raises."""
        if not metric and not sky:
            return None
        network = required_network(model)
        check_single_view(network, metric)
        return cls(network, metric, sky)

    def settings(self) -> dict[str, Any]:
        """What decides the numbers, as JSON types."""
        weights = None if self.network.info is None else self.network.info.weights_sha256
        return {"model": self.network.name, "sha256": weights, "metric": self.metric, "sky": self.sky}

    def onto(
        self, scene: Reconstruction, device: torch.device, progress: ProgressCallback | None
    ) -> Reconstruction:
        """`add_single_view`; a result that is in metres already keeps its own."""
        metric = self.metric
        if metric and scene.metric is not None:
            note = f"--metric changes nothing: {scene.metric['model']} predicts metres itself"
            scene, metric = dataclasses.replace(scene, notes=(*scene.notes, note)), False
        if not metric and not self.sky:
            return scene
        return add_single_view(scene, self.network.to(device), metric, self.sky, progress=progress)


def check_single_view(network: Network, metric: bool) -> None:
    """UsageError unless the network predicts depth and sky of single views, with `metric` in metres."""
    lacks = [head for head in ("depth", "sky") if head not in network.available_heads]
    if lacks or (metric and network.config.metric_focal is None):
        what = "metric depth and sky" if metric else "sky"
        raise UsageError(f"{network.name} does not predict {what} of single views: use da3-metric-large")


def add_single_view(
    scene: Reconstruction,
    network: Network,
    metric: bool = True,
    sky: bool = False,
    metric_views: int = 8,
    progress: ProgressCallback | None = None,
) -> Reconstruction:
    """`scene` in metres, or with its sky, or both, by a network that sees one view at a time.

    Args:
        scene: Any result; what the network sees are its images.
        network: Depth and sky of single views, such as `manyview.load("da3-metric-large")`; runs where it is.
        metric: Multiply all lengths by one factor. It is found on at most `metric_views` views, evenly
            spread, over the more confident half of the pixels that are no sky. Where the middle half of the
            ratios spans more than a factor of `WIDEST_SPREAD`, nothing is multiplied and a note says so.
        sky: Mark the sky of every view in `Reconstruction.sky`.
        metric_views: See `metric`.
        progress: Called with (stage, done, total).

    Raises:
        UsageError: A network that does not predict this.
    """
    check_single_view(network, metric)
    start = time.perf_counter()
    measured = evenly_spread(len(scene), metric_views) if metric else []
    threshold = scene.confidence_threshold(50.0) if metric else 0.0
    skies = None if not sky else np.zeros(scene.z_depth.shape, dtype=bool)
    ratios = []
    seen = range(len(scene)) if sky else measured
    for done, (index, metric_depth, is_sky) in enumerate(_predictions(scene, network, seen), start=1):
        if skies is not None:
            skies[index] = is_sky
        if index in measured:
            kept = scene.view_valid(index) & ~is_sky & (scene.depth_conf[index] >= threshold)
            kept &= metric_depth > _LEAST_METRES
            if kept.sum() >= _LEAST_PIXELS:
                ratios.append((metric_depth[kept] / scene.z_depth[index][kept]).astype(np.float64))
        if progress is not None:
            progress("single views", done, len(seen))
    if skies is not None:
        share = float(skies.mean())
        note = f"{network.name}: {share:.0%} of all pixels are sky and are left out of the points"
        scene = dataclasses.replace(scene, sky=skies, notes=(*scene.notes, note))
    if metric:
        scene = _in_metres(scene, ratios, [scene.names[i] for i in measured], network)
    seconds = {**scene.timings_s, "single views": time.perf_counter() - start}
    return dataclasses.replace(scene, timings_s=seconds)


def scaled(scene: Reconstruction, factor: float) -> Reconstruction:
    """All lengths times `factor`: depth, positions of cameras, points."""
    cam_from_world = scene.cam_from_world.copy()
    cam_from_world[:, :, 3] *= factor
    points = None if scene.head_points is None else scene.head_points * np.float32(factor)
    depth = scene.z_depth * np.float32(factor)
    return dataclasses.replace(scene, cam_from_world=cam_from_world, z_depth=depth, head_points=points)


def _in_metres(
    scene: Reconstruction, ratios: Sequence[np.ndarray], names: Sequence[str], network: Network
) -> Reconstruction:
    if not ratios:
        note = f"no metric scale: {network.name} found too few confident pixels that are no sky"
        return dataclasses.replace(scene, notes=(*scene.notes, note))
    factor = float(np.median([np.median(own) for own in ratios]))
    low, high = np.percentile(np.concatenate(ratios), [25, 75])
    spread = float(high / low)
    views = counted(len(ratios), "view")
    if not spread <= WIDEST_SPREAD:
        note = (
            f"no metric scale: the ratios of {network.name}'s depth to this result's spread by a factor of "
            f"{spread:.2f} over {views} (at most {WIDEST_SPREAD} is accepted), so lengths stay without a unit"
        )
        return dataclasses.replace(scene, notes=(*scene.notes, note))
    note = f"lengths are in metres by {network.name} on {views} (middle half of the ratios: {spread:.2f} x)"
    facts = {
        "factor": factor,
        "spread": spread,
        "views": list(names),
        "model": network.name,
        "weights_licence": network.licence,
    }
    return dataclasses.replace(scaled(scene, factor), metric=facts, notes=(*scene.notes, note))


def _predictions(
    scene: Reconstruction, network: Network, views: Sequence[int]
) -> Iterator[tuple[int, Float32[np.ndarray, "height width"], Bool[np.ndarray, "height width"]]]:
    """(view, depth in metres, sky) at the pixels of the result; 0 and False on padding."""
    config = network.config
    device = next(network.parameters()).device
    options = RunOptions(heads=("depth", "sky"))
    for index in views:
        left, top, right, bottom = scene.views[index].transform.content_box
        shown = Image.fromarray(np.ascontiguousarray(scene.images[index, top:bottom, left:right]))
        policy = config.size_policy
        transform = plan_view(*shown.size, policy, config.image_size, config.patch_size)
        pixels = torch.tensor(render_view(shown, transform, policy)).permute(2, 0, 1)
        with torch.inference_mode():
            found = network(pixels[None].to(device), None, options)
        assert found.z_depth is not None and found.sky is not None
        size = (bottom - top, right - left)
        depth = F.interpolate(found.z_depth.float().cpu(), size=size, mode="bilinear", align_corners=False)
        sky = F.interpolate(found.sky.float().cpu(), size=size, mode="nearest")
        focal = scene.intrinsics[index].diagonal()[:2] * (transform.scale_x, transform.scale_y)
        metres = depth[0, 0].numpy() * np.float32(focal.mean() / (config.metric_focal or 1.0))
        maps = np.zeros(scene.z_depth.shape[1:], np.float32), np.zeros(scene.z_depth.shape[1:], bool)
        maps[0][top:bottom, left:right], maps[1][top:bottom, left:right] = metres, sky[0, 0].numpy() > 0.5
        yield index, *maps
