"""Depth Anything 3 for single views: images in, depth and sky out (arXiv 2511.10647, section 4)."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Num
from torch import Tensor

from ...attention.plan import Plan
from ...errors import UsageError
from ...kernels import launch_device
from ..alternating import check_range, normalise_images
from ..feature_taps import run_dense_head
from ..layers import in_slices
from ..network import Network
from ..precision import Compute, ConvertedWeights
from ..predictions import Predictions
from ..recording import mark
from ..run_options import RunOptions
from .backbone import Backbone, VisionTransformer
from .mono_config import DA3MonoConfig
from .sky import NETWORK_THRESHOLD, USER_THRESHOLD, with_far_sky
from .sky_head import SkyHead


class DA3Mono(Network):
    """Depth and sky of each view by itself, up to scale or metric; there are no cameras.

    `z_depth` of the metric network is in metres for a focal length of `config.metric_focal` pixels, and has
    to be multiplied by (focal length / `metric_focal`) for others.
    """

    config: DA3MonoConfig
    why_not_attachable = "the network sees one view at a time and predicts no cameras"
    why_not_distributed: str | None = None
    why_not_streamable = "it sees one view at a time and predicts no cameras"

    def __init__(self, config: DA3MonoConfig) -> None:
        super().__init__(config)
        self.backbone = Backbone(VisionTransformer(config))
        if config.head is not None:
            self.head = SkyHead(config.dim, config.head)

    def forward(
        self,
        images: Tensor,
        plan: Plan | None = None,
        options: RunOptions | None = None,
        recorder: Any = None,
        *,
        weights: ConvertedWeights | None = None,
    ) -> Predictions:
        """Predict for images [B, S, 3, H, W] or [S, 3, H, W], uint8 or floating in [0, 1].

        A `plan` has no layers. The sky gets the depth of what is farthest in all views together.
        `options.heads` are "depth" and "sky". Raises UsageError as `Network.forward` does.
        """
        images, plan, options = self.completed(images, plan, options or RunOptions(heads=("depth", "sky")))
        if plan.layers:
            raise UsageError(f"the plan has {len(plan.layers)} layers, a network of single views has none")
        if not self.training:
            check_range(images)
        layout, ranks = self.config.whole_layout(images, options.ranks), options.ranks
        layout = layout if ranks is None else layout.part(ranks.split)
        z_depth, score = self.single_views(images, options, weights)
        mark(recorder, "depth head")
        result = Predictions(images.shape[-2], images.shape[-1], layout)
        if "depth" in options.heads:
            result.z_depth = with_far_sky(z_depth, score >= NETWORK_THRESHOLD, ranks)
        if "sky" in options.heads:
            result.sky = score >= USER_THRESHOLD
        return result

    def single_views(
        self, images: Tensor, options: RunOptions, weights: ConvertedWeights | None = None
    ) -> tuple[Float[Tensor, "batch frames height width"], Float[Tensor, "batch frames height width"]]:
        """Depth as the head gives it, and the sky score, at least 0, of images [B, S, 3, H, W].

        Views are run in pieces of `frames_per_chunk` or `head_frames_per_chunk`, the smaller one, from
        pixels to outputs.
        """
        compute = Compute.for_trunk(options, weights)
        flat, transformer = images.flatten(0, 1), self.backbone.pretrained
        positions = transformer.position_embedding(self.config.layout(1, *images.shape[-2:]).grid)

        def run(part: slice) -> tuple[Tensor, ...]:
            return self._piece(flat[part], positions, options, compute, weights)

        with launch_device(options.kernels, images.device):
            pieces = (piece for piece in self.config.pieces(options) if piece is not None)
            size = min(pieces, default=None)
            compute = compute.in_pieces((size or len(flat)) < len(flat))
            depth, sky = in_slices(run, len(flat), size)
        batch = images.shape[:2]
        return depth.squeeze(-1).unflatten(0, batch), sky.unflatten(0, batch)

    def _piece(
        self,
        images: Num[Tensor, "n 3 height width"],
        positions: Tensor,
        options: RunOptions,
        compute: Compute,
        weights: ConvertedWeights | None,
    ) -> tuple[Tensor, ...]:
        transformer, head, config = self.backbone.pretrained, self.head, self.config
        taps: list[Tensor] = []

        def read(number: int, x: Tensor) -> None:
            """Project what leaves block `number` - 1 if it is a tap."""
            for tap in config.taps:
                if tap == number - 1:
                    normed = transformer.norm(x[:, config.special_tokens :].to(precise), compute)
                    taps.append(head.project(normed, len(taps), compute).to(x.dtype))

        precise = options.head_dtype or head.dtype
        pixels = normalise_images(images, options.dtype or head.dtype)
        read(config.layers, transformer.within_views(pixels, positions, config.layers, read, compute))
        grid = config.layout(1, *images.shape[-2:]).grid
        return tuple(
            output[0] for output in run_dense_head(head, taps, grid, (1, *images.shape), options, weights)
        )
