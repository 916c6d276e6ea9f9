"""Depth Anything 3 in metres: an any-view network scaled by a metric one (arXiv 2511.10647, nested model)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Num
from torch import Tensor

from ...attention.plan import Plan
from ..network import Network
from ..precision import ConvertedWeights
from ..predictions import Predictions
from ..priors import Priors
from ..recording import mark
from ..run_options import RunOptions
from .metric_scale import in_metres, metric_depth
from .model import DA3
from .mono import DA3Mono
from .nested_config import DA3NestedConfig, with_both_heads
from .sky import NETWORK_THRESHOLD


class DA3Nested(Network):
    """Cameras, depth and sky of any views, in metres. A plan covers the any-view network's global layers.

    With known cameras lengths are in their unit.
    """

    config: DA3NestedConfig
    why_not_attachable = "its scale in metres is found over all views together"
    why_not_distributed: str | None = None
    why_not_streamable = "its scale in metres is found over all views together"

    def __init__(self, config: DA3NestedConfig) -> None:
        super().__init__(config)
        self.da3 = DA3(config.any_view)
        self.da3_metric = DA3Mono(config.metric)

    def forward(
        self,
        images: Tensor,
        plan: Plan | None = None,
        options: RunOptions | None = None,
        recorder: Any = None,
        priors: Priors | None = None,
        *,
        weights: ConvertedWeights | None = None,
    ) -> Predictions:
        """Predict for images [B, S, 3, H, W] or [S, 3, H, W], uint8 or floating in [0, 1].

        Cameras, depth, `metric_scale` and `sky` are always there. For `priors` and errors see `DA3.forward`;
        UsageError also where nothing but sky is seen.
        """
        images, plan, options = self.completed(images, plan, options)
        options = with_both_heads(options)
        return self.da3(
            images,
            plan,
            options,
            recorder,
            priors,
            weights=weights,
            refined=lambda result: self.scaled(result, images, options, recorder, weights),
        )

    def scaled(
        self,
        result: Predictions,
        images: Num[Tensor, "batch frames 3 height width"],
        options: RunOptions,
        recorder: Any = None,
        weights: ConvertedWeights | None = None,
    ) -> Predictions:
        """What the any-view network says of the images, in metres and with the sky (`in_metres`)."""
        output, score = self.da3_metric.single_views(images, options, weights)
        sky = score >= NETWORK_THRESHOLD
        cam_from_world, intrinsics = result.cam_from_world, result.intrinsics
        metres = metric_depth(output, intrinsics)
        assert result.z_depth is not None and result.depth_conf is not None
        assert result.world_from_cam is not None
        scenes = [
            in_metres(*parts, options.ranks)
            for parts in zip(result.z_depth, result.depth_conf, cam_from_world, metres, sky, strict=True)
        ]
        result.z_depth, result.depth_conf = (
            torch.stack(maps) for maps in zip(*((s.z_depth, s.depth_conf) for s in scenes), strict=True)
        )
        result.metric_scale = torch.stack([scene.scale for scene in scenes])
        result.cameras = (torch.stack([scene.cam_from_world for scene in scenes]), intrinsics)
        result.world_from_cam = result.world_from_cam.clone()
        result.world_from_cam[..., :3, 3] *= result.metric_scale[:, None, None]
        result.sky = sky
        mark(recorder, "metric head")
        return result
