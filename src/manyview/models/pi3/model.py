"""π³ as a network: images in, camera poses and points out, the same in any order of the images."""

from __future__ import annotations

from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...attention.layout import TokenLayout
from ...attention.plan import Plan
from ...distributed.ranks import Ranks
from ...errors import UsageError
from ...geometry.cameras import invert_rigid
from ...kernels import launch_device
from ..alternating import AlternatingLayers, Known
from ..blocks import Block
from ..encoder import DinoEncoder
from ..layers import in_slices
from ..network import Network
from ..pose_encoding import in_first_camera
from ..precision import Compute, ConvertedWeights
from ..predictions import Predictions
from ..priors import Priors
from ..recording import mark
from ..rotary import frame_rotation
from ..run_options import RunOptions
from .config import Pi3Config
from .heads import HeadDecoder, PixelHead, PoseHead, local_points
from .intrinsics import focal_from_points

_EPS = 1e-6
_MOST_LOGIT = 40.0  # a probability of one in any precision, and its exponential is still finite


class Pi3(Network, AlternatingLayers):
    """π³ of any size; `state_dict()` is a public-layout checkpoint. No frame is special.

    Lengths are up to one scale. The network's own world frame has no meaning: `world_from_cam` of its
    predictions is in it, all else in the first camera's frame, as for every network here.
    """

    config: Pi3Config
    why_not_attachable: str | None = None
    why_not_distributed: str | None = None
    why_not_streamable = "it has no first frame whose camera is the world"

    def __init__(self, config: Pi3Config) -> None:
        super().__init__(config)
        self.register_token = nn.Parameter(torch.zeros(1, 1, config.registers, config.dim))
        # Part of every checkpoint; the numbers are ImageNet's, which `normalise_images` uses.
        self.register_buffer("image_mean", torch.zeros(1, 3, 1, 1))
        self.register_buffer("image_std", torch.ones(1, 3, 1, 1))
        self.encoder = DinoEncoder(config.dim, config.patch_size, config.encoder, mask_token=False)
        self.decoder = nn.ModuleList(
            Block(config.dim, config.num_heads, config.mlp_ratio, qk_norm=True, eps=_EPS)
            for _ in range(2 * config.depth)
        )
        self.point_decoder, self.conf_decoder, self.camera_decoder = (
            HeadDecoder(2 * config.dim, config.decoder_dim, config.decoder_depth, config.decoder_heads, out)
            for out in (config.point_dim, config.confidence_dim, config.camera_dim)
        )
        self.camera_head = PoseHead(config.camera_dim)
        self._add_pixel_heads(config)

    def _add_pixel_heads(self, config: Pi3Config) -> None:
        self.point_head = PixelHead(config.point_dim, config.patch_size, 3)
        self.conf_head = PixelHead(config.confidence_dim, config.patch_size, 1)

    def _local_points(self, x: Tensor, layout: TokenLayout) -> Float[Tensor, "n height width 3"]:
        return local_points(self.point_head(x, layout.grid))

    def _logits(self, x: Tensor, layout: TokenLayout) -> Float[Tensor, "n height width 1"]:
        return self.conf_head(x, layout.grid)

    def _metric_scale(
        self, hidden: Tensor, layout: TokenLayout, batch: int, compute: Compute, ranks: Ranks | None
    ) -> Tensor | None:
        """Metres per unit of length of each scene; None where a network does not know."""
        return None

    def image_encoder(self) -> DinoEncoder:
        return self.encoder

    def frame_block(self, layer: int) -> Block:
        return cast(Block, self.decoder[2 * layer])

    def global_block(self, layer: int) -> Block:
        return cast(Block, self.decoder[2 * layer + 1])

    def special_tokens(self, batch: int, frames: int) -> Float[Tensor, "b s n c"]:
        return self.register_token.expand(batch, frames, -1, -1)

    def forward(
        self,
        images: Tensor,
        plan: Plan | None = None,
        options: RunOptions | None = None,
        recorder: Any = None,
        priors: Priors | None = None,
        continues: bool = False,
        memory: dict[Any, Any] | None = None,
        *,
        weights: ConvertedWeights | None = None,
    ) -> Predictions:
        """Predict for images [B, S, 3, H, W] or [S, 3, H, W], uint8 or floating in [0, 1].

        Intrinsics are fitted to the local points (π³ predicts none); confidences are 1 + exp(logit), so
        that 1 - 1 / c is π³'s own probability. `priors`: what is known beforehand (Pi3X only). With
        `continues` cameras and points stay in the network's own world, as the scene's first frame is not
        among these. `memory` and `weights`: see `run_layers`. Raises UsageError as VGGT does.
        """
        images, plan, options = self.completed(images, plan, options)
        known = None if priors is None else self._known(priors, images, options)
        with launch_device(options.kernels, images.device):
            tap = _LastPair(self.config.depth - 1)
            layout = self.run_layers(images, plan, options, tap, recorder, known, memory, weights)
            compute = Compute.for_heads(options, weights)
            hidden = tap.take()
            metres = self._metric_scale(hidden, layout, len(images), compute, options.ranks)
            parts = self._heads(hidden, layout, options, compute)
            del hidden
        result = Predictions(images.shape[-2], images.shape[-1], layout)
        result.local_points, result.confidence_logits, poses, intrinsics = (
            part.unflatten(0, images.shape[:2]) for part in parts
        )
        del parts
        if metres is not None:
            result.metric_scale = metres
            result.local_points = result.local_points * metres[:, None, None, None, None]
            poses = poses.clone()
            poses[..., :3, 3] *= metres[:, None, None]
        result.world_from_cam = poses
        for head in options.heads:
            mark(recorder, f"{head} head")
        cameras = invert_rigid(result.world_from_cam[..., :3, :])
        cameras = cameras if continues else in_first_camera(cameras, options.ranks)
        result.cameras = (cameras, intrinsics)
        result.z_depth = result.local_points[..., 2]
        result.depth_conf = 1 + result.confidence_logits[..., 0].clamp(max=_MOST_LOGIT).exp()
        if "points" in options.heads:
            back = invert_rigid(cameras)
            rotated = torch.einsum("bsij,bshwj->bshwi", back[..., :3], result.local_points)
            result.world_points = rotated + back[..., 3][:, :, None, None]
            result.world_points_conf = result.depth_conf
        return result

    def encoder_features(
        self,
        images: Tensor,
        options: RunOptions,
        continues: bool = False,
        weights: ConvertedWeights | None = None,
    ) -> Float[Tensor, "batch frames dim"]:
        return self.frame_features(images, options, weights=weights)

    def _known(self, priors: Priors, images: Tensor, options: RunOptions) -> Known:
        raise UsageError("these weights take images only: known cameras and depth need Pi3X")

    def _heads(
        self, hidden: Tensor, layout: TokenLayout, options: RunOptions, compute: Compute
    ) -> list[Tensor]:
        """Local points, confidence logits, poses and intrinsics of [B*S] frames, some frames at a time."""
        config = self.config
        head_dim = config.decoder_dim // config.decoder_heads
        rotation = frame_rotation(layout, head_dim, config.rope_base, hidden.device)
        dtype = self.camera_head.fc_t.weight.dtype

        def run(part: slice) -> list[Tensor]:
            x = hidden[part].to(dtype)
            points, confidence, camera = (
                decoder(x, rotation, compute)[:, layout.special_tokens :]
                for decoder in (self.point_decoder, self.conf_decoder, self.camera_decoder)
            )
            local = self._local_points(points, layout)
            logits = self._logits(confidence, layout)
            with torch.no_grad():  # a fit; poses and points carry the gradient
                intrinsics = focal_from_points(local, logits[..., 0].sigmoid())
            return [local, logits, self.camera_head(camera), intrinsics]

        return in_slices(run, len(hidden), options.head_frames_per_chunk)


class _LastPair:
    """Keeps the outputs of the last frame and global block side by side."""

    def __init__(self, last: int) -> None:
        self.layers = {last}
        self._tokens: Tensor | None = None

    def __call__(self, layer: int, frame_tokens: Tensor, global_tokens: Tensor, compute: Compute) -> None:
        if layer in self.layers:
            self._tokens = torch.cat([frame_tokens, global_tokens], -1).flatten(0, 1)

    def take(self) -> Tensor:
        assert self._tokens is not None
        tokens, self._tokens = self._tokens, None
        return tokens
