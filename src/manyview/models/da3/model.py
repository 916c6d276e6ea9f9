"""Depth Anything 3 for any views: images in, cameras and depth out (arXiv 2511.10647)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from ...attention.plan import Plan
from ...errors import UsageError
from ...geometry.cameras import invert_rigid, quat_xyzw_from_rotation, relative_to_first
from ...kernels import launch_device
from ..feature_taps import run_dense_head
from ..network import ChunkOutput, Network
from ..pose_encoding import in_first_camera
from ..precision import Compute, ConvertedWeights
from ..predictions import Predictions
from ..priors import Priors
from ..recording import mark
from ..run_options import RunOptions
from .backbone import AlternatingTransformer, Backbone, CameraTokens
from .camera_decoder import CameraDecoder, decoded_cameras
from .camera_encoder import CameraEncoder
from .config import DA3Config
from .dual_head import DualHead
from .known import KnownCameras
from .ray_cameras import cameras_from_rays
from .reference_view import InOrder
from .taps import ViewAndCurrent


class DA3(Network):
    """An any-view network of any size. Names of its tensors are those of public files without `model.`.

    The reference view, whose camera token is another, is chosen from three views on where
    `RunOptions.reference_view` does not name it. Under a plan of anchors it is the first view, so that what
    a view gives does not depend on which others there are.
    """

    config: DA3Config
    why_not_attachable: str | None = None
    why_not_distributed: str | None = None
    why_not_streamable: str | None = None

    def __init__(self, config: DA3Config) -> None:
        super().__init__(config)
        self.backbone = Backbone(AlternatingTransformer(config))
        if config.camera_encoder is not None:
            self.cam_enc = CameraEncoder(config.dim, config.camera_encoder)
        if config.camera_decoder is not None:
            self.cam_dec = CameraDecoder(2 * config.dim)
        if config.head is not None:
            self.head = DualHead(2 * config.dim, config.head)

    @property
    def transformer(self) -> AlternatingTransformer:
        """The backbone itself."""
        assert isinstance(self.backbone.pretrained, AlternatingTransformer)
        return self.backbone.pretrained

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
        refined: Callable[[Predictions], Predictions] | None = None,
    ) -> Predictions:
        """Predict for images [B, S, 3, H, W] or [S, 3, H, W], uint8 or floating in [0, 1].

        Args:
            images, plan, options, recorder, weights: As of every network.
            priors: Poses and intrinsics of all views. They condition the network and are the cameras of the
                result; depth is in their unit (`known.KnownCameras`).
            continues: The frames belong to a scene whose first view is not among them: none is the reference,
                and cameras stay in the network's own world.
            memory: What the layers share (`LayerRun.memory`).
            refined: Makes of what the heads say, in the network's own world, what is returned in that of the
                first view, or of known cameras.

        Raises:
            UsageError: As of every network; known cameras of some views only, or known depth.
        """
        images, plan, options = self.completed(images, plan, options)
        known = None if priors is None else self._known(priors, images, options)
        given = None
        if known is not None:
            options = dataclasses.replace(options, host_outputs=False)  # depth is scaled to the known cameras
            size = (images.shape[-2], images.shape[-1])
            given = known.own(self.cam_enc(known.normalised(), known.intrinsics, size))
        rule = "first" if plan.has_anchors else options.reference_view or self.config.reference_views[0]
        tokens = CameraTokens(self.transformer.camera_token, given, rule, continues)
        result = self.predict(images, plan, options, tokens, recorder, memory, weights)
        if refined is not None:
            result = refined(result)
        predicted: Tensor | None = None
        if result.world_from_cam is not None:
            predicted = invert_rigid(result.world_from_cam[..., :3, :])
        if known is not None:
            return known.applied(result, predicted)
        if predicted is not None and not continues:
            assert result.cameras is not None
            result.cameras = (in_first_camera(predicted, options.ranks), result.cameras[1])
        return result

    def predict(
        self,
        images: Num[Tensor, "batch frames 3 height width"],
        plan: Plan,
        options: RunOptions,
        tokens: CameraTokens,
        recorder: Any = None,
        memory: dict[Any, Any] | None = None,
        weights: ConvertedWeights | None = None,
    ) -> Predictions:
        """What the heads say, in the order of the images: cameras in the network's own world and unit."""
        config, heads = self.config, options.heads
        if recorder is not None:
            layout = config.layout(images.shape[1], *images.shape[-2:])
            recorder = InOrder(recorder, lambda: tokens.order, layout)
        with launch_device(options.kernels, images.device):
            with_rays = "rays" in heads or options.camera_from_rays
            dense = {"depth": self.head} if with_rays or "depth" in heads else {}
            taps = ViewAndCurrent(config, dense, options, self.transformer.norm)
            layout = self.transformer.run_layers(
                images, plan, options, taps, recorder, tokens, memory, weights
            )
            order = tokens.order
            assert order is not None
            result = Predictions(images.shape[-2], images.shape[-1], layout)
            if ("camera" in heads or tokens.known) and not options.camera_from_rays:
                assert taps.camera_tokens is not None
                camera_tokens = taps.camera_tokens.to(self.cam_dec.fc_t.weight.dtype)
                encoding = self.cam_dec(camera_tokens, Compute.for_heads(options, weights))
                result.pose_encoding_list = [order.restore(encoding)]
                _set_cameras(result, *decoded_cameras(result.pose_encoding, result.height, result.width))
            if "camera" in heads:
                mark(recorder, "camera head")
            if dense:
                maps = run_dense_head(
                    self.head,
                    taps.take("depth"),
                    layout.grid,
                    images.shape,
                    options,
                    weights,
                    on_host=options.host_outputs and not with_rays and order.views is None,
                    rays=with_rays,
                )
                depth, result.depth_conf, *rays = (order.restore(x) for x in maps)
                result.z_depth = depth.squeeze(-1)
                if rays:
                    result.rays, result.rays_conf = rays
                if options.camera_from_rays:
                    size = (result.height, result.width)
                    found = cameras_from_rays(rays[0], rays[1], size, ranks=options.ranks)
                    _set_cameras(result, invert_rigid(found[0]), found[1])
                for head in ("depth", "rays"):
                    if head in heads:
                        mark(recorder, f"{head} head")
        return result

    def _known(self, priors: Priors, images: Tensor, options: RunOptions) -> KnownCameras:
        if self.config.why_no_priors is not None:
            raise UsageError(f"{self.name} {self.config.why_no_priors}")
        if options.reference_view is not None:
            raise UsageError(
                f"the reference view by {options.reference_view!r} is chosen without known cameras only: "
                "leave out either"
            )
        return KnownCameras.of(priors, images.shape, options.ranks)

    def encoder_features(
        self,
        images: Tensor,
        options: RunOptions,
        continues: bool = False,
        weights: ConvertedWeights | None = None,
    ) -> Float[Tensor, "batch frames dim"]:
        tokens = CameraTokens(self.transformer.camera_token, continues=continues)
        return self.transformer.frame_features(images, options, tokens, weights)

    def run_chunk(
        self,
        images: Num[Tensor, "batch frames 3 height width"],
        plan: Plan,
        options: RunOptions,
        starts_stream: bool,
        recorder: Any = None,
        weights: ConvertedWeights | None = None,
    ) -> ChunkOutput:
        taps = ViewAndCurrent(self.config, {"depth": self.head}, options, self.transformer.norm)
        tokens = CameraTokens(self.transformer.camera_token, continues=not starts_stream)
        with launch_device(options.kernels, images.device):
            layout = self.transformer.run_layers(
                images, plan, options, taps, recorder, tokens, weights=weights
            )
            depth, conf = run_dense_head(
                self.head,
                taps.take("depth"),
                layout.grid,
                images.shape,
                options,
                weights,
                on_host=options.host_outputs,
            )
        assert taps.camera_tokens is not None
        return ChunkOutput(taps.camera_tokens.to(self.head.dtype), depth.squeeze(-1), conf)

    def camera_encoding(
        self, camera_tokens: Float[Tensor, "batch frames dim"]
    ) -> Float[Tensor, "batch frames 9"]:
        encoding = self.cam_dec(camera_tokens)
        world_from_cam, _ = decoded_cameras(encoding, 1, 1)
        cam_from_world = relative_to_first(invert_rigid(world_from_cam))
        quat_xyzw = quat_xyzw_from_rotation(cam_from_world[..., :3])
        return torch.cat([cam_from_world[..., 3], quat_xyzw, encoding[..., 7:]], dim=-1)


def _set_cameras(
    result: Predictions,
    world_from_cam: Float[Tensor, "batch frames 3 4"],
    intrinsics: Float[Tensor, "batch frames 3 3"],
) -> None:
    last = world_from_cam.new_tensor([0.0, 0.0, 0.0, 1.0]).expand(*world_from_cam.shape[:2], 1, 4)
    result.world_from_cam = torch.cat([world_from_cam, last], dim=-2)
    result.cameras = (invert_rigid(world_from_cam), intrinsics)
