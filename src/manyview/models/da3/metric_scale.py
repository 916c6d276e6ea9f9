"""Metres by Depth Anything 3: depth of single views in metres, and the scale of a scene by it.

Source: Depth Anything 3 (arXiv 2511.10647), sections on metric depth and the nested model.
"""

from __future__ import annotations

import dataclasses

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ...distributed.ranks import Ranks
from ...errors import UsageError
from .sky import LEAST_PIXELS, counts, far_depth, kth_value

METRIC_FOCAL = 300.0
"""Focal length in pixels at which the metric network's output is in metres."""

_LEAST_METRES = 0.01
_LEAST_DEPTH = 1e-3
_FARTHEST_SKY = 200.0  # metres


def metric_depth(
    output: Float[Tensor, "*batch height width"], intrinsics: Float[Tensor, "*batch 3 3"]
) -> Float[Tensor, "*batch height width"]:
    """Depth in metres from the metric network's output, in proportion to the focal length in pixels."""
    focal = (intrinsics[..., 0, 0] + intrinsics[..., 1, 1]) / 2
    return output * (focal / METRIC_FOCAL)[..., None, None]


@dataclasses.dataclass(frozen=True, eq=False)
class MetricScene:
    """Depth, its confidence and cameras in metres, and the factor that made them so."""

    z_depth: Float[Tensor, "frames height width"]
    depth_conf: Float[Tensor, "frames height width"]
    cam_from_world: Float[Tensor, "frames 3 4"]
    scale: Float[Tensor, ""]


def in_metres(
    z_depth: Float[Tensor, "frames height width"],
    depth_conf: Float[Tensor, "frames height width"],
    cam_from_world: Float[Tensor, "frames 3 4"],
    metres: Float[Tensor, "frames height width"],
    sky: Bool[Tensor, "frames height width"],
    ranks: Ranks | None = None,
) -> MetricScene:
    """A scene without a unit, scaled to depth in metres by least squares over its more confident half.

    Args:
        z_depth: Depth of the scene, in its unit.
        depth_conf: Its confidence.
        cam_from_world: Its cameras, in its unit.
        metres: Depth in metres of each view by itself, as `metric_depth` gives it.
        sky: True on pixels of the sky, which are not compared; they get the 0.99 quantile of the depth of
            all others, at most 200 m, and a confidence of 1.
        ranks: The frames are this rank's of a scene that several ranks share.

    Returns:
        The scene in metres.

    Raises:
        UsageError: Hardly anything but sky.
    """
    others = ~sky
    seen, skies = counts(others, sky, ranks=ranks)
    if seen <= LEAST_PIXELS:
        raise UsageError(f"all but {seen} pixels are sky: a metric scale needs more than {LEAST_PIXELS}")
    values = depth_conf[others]
    low, high = (kth_value(values, rank, ranks) for rank in ((seen - 1) // 2, seen // 2))
    confident = depth_conf >= (low + high) / 2  # the median
    compared = confident & others & (metres > _LEAST_METRES) & (z_depth > _LEAST_DEPTH)
    own, wanted = z_depth[compared], metres[compared]
    products = torch.stack([(wanted * own).sum(), (own * own).sum()])
    numerator, denominator = products if ranks is None else ranks.sum(products)
    scale = numerator / denominator.clamp(min=1e-12)
    scaled = z_depth * scale
    if skies:
        scaled = torch.where(sky, far_depth(scaled[others], seen, ranks).clamp(max=_FARTHEST_SKY), scaled)
    cameras = torch.cat([cam_from_world[..., :3], cam_from_world[..., 3:] * scale], dim=-1)
    return MetricScene(scaled, torch.where(sky, 1.0, depth_conf), cameras, scale)
