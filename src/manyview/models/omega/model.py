"""VGGT-Ω as a network: images in, cameras and depth out (arXiv 2605.15195)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...attention.global_attention import DENSE
from ...attention.layout import TokenLayout
from ...attention.plan import Plan
from ...kernels import launch_device
from ..alternating import Aggregator
from ..feature_taps import FeatureTaps, run_dense_head
from ..network import Network
from ..pose_encoding import frame_attention
from ..precision import Compute, ConvertedWeights
from ..predictions import Predictions
from ..recording import mark
from ..rotary import Rotation
from ..run_options import RunOptions
from .blocks import RotaryPeriods, omega_block
from .config import OmegaConfig
from .encoder import OmegaEncoder
from .heads import OmegaCameraHead, OmegaDenseHead, TextHead


class OmegaTrunk(Aggregator):
    """Images to feature taps. Parameter names are those of the public checkpoints' `aggregator`.

    Frame blocks have positions, inter-frame blocks have none. A plan covers the inter-frame blocks with
    attention among all tokens; those of `register_layers` are no part of it and always run as published.
    """

    config: OmegaConfig
    patch_embed: OmegaEncoder

    def __init__(self, config: OmegaConfig) -> None:
        dim, heads = config.dim, config.num_heads
        super().__init__(
            config,
            OmegaEncoder(dim, config.patch_size, config.encoder, config.rope_base),
            lambda: omega_block(dim, heads, config.mlp_ratio, qk_norm=True),
            "inter_frame_blocks",
        )
        self.rope_embed = RotaryPeriods(dim // heads, config.rope_base)

    def plan_layers(self) -> Sequence[int | None]:
        layers = iter(range(self.config.depth))
        return [
            None if pair in self.config.register_layers else next(layers) for pair in range(self.config.pairs)
        ]

    def rotations(self, layout: TokenLayout, device: torch.device) -> tuple[Rotation, None]:
        return self.rope_embed.rotation(layout.grid, layout.special_tokens), None


class Omega(Network):
    """VGGT-Ω of any size; `state_dict()` is a public-layout checkpoint. The first frame is the world."""

    config: OmegaConfig
    why_not_attachable = "the network joins frames outside of the plan's layers"
    why_not_distributed: str | None = None
    why_not_streamable = "its layers of camera and register tokens join all frames, whatever the plan"

    def __init__(self, config: OmegaConfig) -> None:
        super().__init__(config)
        self.aggregator = OmegaTrunk(config)
        dim = 2 * config.dim
        if config.camera_head is not None:
            self.camera_head = OmegaCameraHead(dim, config.camera_head)
        if config.depth_head is not None:
            self.dense_head = OmegaDenseHead(dim, config.depth_head, config.patch_size)
        if config.text_head is not None:
            self.text_alignment_head = TextHead(dim, config.text_head)

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

        `plan` has a layer for each inter-frame block with attention among all tokens (None: dense).
        `weights`: see `run_layers`. Raises UsageError as VGGT does.
        """
        images, plan, options = self.completed(images, plan, options)
        with launch_device(options.kernels, images.device):
            dense = {"depth": self.dense_head} if "depth" in options.heads else {}
            kept = self.config.special_tokens
            feature_taps = FeatureTaps(self.config, dense, options, kept)
            memory: dict[Any, Any] = {}
            layout = self.aggregator(images, plan, options, feature_taps, recorder, None, memory, weights)
            result = Predictions(images.shape[-2], images.shape[-1], layout)
            assert feature_taps.special_tokens is not None
            # Heads run in the precision of the weights.
            specials = feature_taps.special_tokens.to(self.aggregator.camera_token.dtype)
            compute = Compute.for_heads(options, weights)
            if "camera" in options.heads:
                across_frames = None
                if plan.camera is not None or options.ranks is not None:
                    whole = self.config.whole_layout(images, options.ranks)
                    across_frames = frame_attention(
                        plan.camera or DENSE, whole, memory, options.kernels, kept, options.ranks
                    )
                result.pose_encoding_list = [self.camera_head(specials, across_frames, compute)]
                mark(recorder, "camera head")
            if "depth" in options.heads:
                depth, result.depth_conf = run_dense_head(
                    self.dense_head,
                    feature_taps.take("depth"),
                    layout.grid,
                    images.shape,
                    options,
                    weights,
                    on_host=options.host_outputs,
                )
                result.z_depth = depth.squeeze(-1)
                mark(recorder, "depth head")
            if "text" in options.heads:
                token, embedding = self.text_alignment_head(specials, compute, options.ranks)
                result.text_alignment_token, result.text_alignment_embedding = token, embedding
                mark(recorder, "text head")
        return result
