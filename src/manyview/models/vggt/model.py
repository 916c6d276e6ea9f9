"""VGGT: images in, cameras, depth, points and tracks out (Wang et al., CVPR 2025, arXiv 2503.11651)."""

from __future__ import annotations

from typing import Any

from jaxtyping import Float, Num
from torch import Tensor

from ...attention.global_attention import DENSE
from ...attention.plan import Plan
from ...errors import UsageError
from ...kernels import launch_device
from ..dense_head import DenseHead
from ..feature_taps import FeatureTaps, run_dense_head
from ..network import ChunkOutput, Network
from ..pose_encoding import frame_attention
from ..precision import Compute, ConvertedWeights
from ..predictions import Predictions
from ..recording import mark
from ..run_options import RunOptions
from .camera_head import CameraHead
from .config import VGGTConfig
from .track_head import TrackHead
from .trunk import LaterFrames, Trunk

__all__ = ["VGGT", "Predictions"]


class VGGT(Network):
    """Visual geometry grounded transformer of any size. `state_dict()` is a public-layout checkpoint."""

    config: VGGTConfig
    why_not_attachable: str | None = None
    why_not_streamable: str | None = None
    why_not_distributed: str | None = None
    trainable = True

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__(config)
        self.aggregator = Trunk(config)
        tap_dim = 2 * config.dim
        if config.camera_head is not None:
            self.camera_head = CameraHead(tap_dim, config.camera_head)
        if config.depth_head is not None:
            self.depth_head = DenseHead(tap_dim, config.depth_head, 2, "exp")
        if config.point_head is not None:
            self.point_head = DenseHead(tap_dim, config.point_head, 4, "inv_log")
        if config.track_head is not None:
            self.track_head = TrackHead(tap_dim, config.track_head)

    def forward(
        self,
        images: Tensor,
        plan: Plan | None = None,
        options: RunOptions | None = None,
        recorder: Any = None,
        query_points: Float[Tensor, "*batch queries 2"] | None = None,
        continues: bool = False,
        memory: dict[Any, Any] | None = None,
        *,
        weights: ConvertedWeights | None = None,
    ) -> Predictions:
        """Predict for images [B, S, 3, H, W] or [S, 3, H, W], uint8 or floating in [0, 1].

        `plan` is the attention of each global layer (None: dense). `query_points` are pixels of
        frame 0 for the track head. `recorder` may have `mark(stage)`, `global_attention(layer, q, k)` and
        `global_tokens(layer, tokens)`. With `continues` the frames belong to a scene whose first frame is not
        among them: the plan must bring what they need of it. `memory` and `weights`: see `run_layers`.

        Raises:
            UsageError: for images of another shape or type, a head these weights lack, a plan of another
                depth, query points that do not fit, or kernels that do not run on the images' device.
        """
        images, plan, options = self.completed(images, plan, options)
        if "track" in options.heads:
            if options.ranks is not None:
                raise UsageError("points are tracked in one process only: leave the head track out")
            query_points = self.track_head.check(images.shape[-2], images.shape[-1], query_points)
            if len(query_points) != len(images):
                raise UsageError(f"there are {len(images)} scenes, but query_points for {len(query_points)}")
        memory = {} if memory is None else memory
        with launch_device(options.kernels, images.device):
            dense = {name: self._dense_head(name) for name in options.heads if name != "camera"}
            feature_taps = FeatureTaps(self.config, dense, options)
            known = LaterFrames(self.aggregator) if continues else None
            layout = self.aggregator(images, plan, options, feature_taps, recorder, known, memory, weights)
            result = Predictions(images.shape[-2], images.shape[-1], layout)
            if "camera" in options.heads:
                assert feature_taps.camera_tokens is not None
                tokens = feature_taps.camera_tokens.to(self.camera_head.token_norm.weight.dtype)
                across_frames = None
                if plan.camera is not None or options.ranks is not None:
                    whole = self.config.whole_layout(images, options.ranks)
                    across_frames = frame_attention(
                        plan.camera or DENSE, whole, memory, options.kernels, ranks=options.ranks
                    )
                result.pose_encoding_list = self.camera_head(
                    tokens, across_frames=across_frames, compute=Compute.for_heads(options, weights)
                )
                mark(recorder, "camera head")
            for name, extractor in dense.items():
                maps = run_dense_head(
                    extractor,
                    feature_taps.take(name),
                    layout.grid,
                    images.shape,
                    options,
                    weights,
                    on_host=options.host_outputs and name != "track",
                )
                if name == "depth":
                    result.z_depth, result.depth_conf = maps[0].squeeze(-1), maps[1]
                elif name == "points":
                    result.world_points, result.world_points_conf = maps
                else:
                    assert query_points is not None
                    tracks, visibility, confidence = self.track_head(maps[0], query_points)
                    result.track_list, result.track_visibility = tracks, visibility
                    result.track_confidence = confidence
                mark(recorder, f"{name} head")
        return result

    def encoder_features(
        self,
        images: Tensor,
        options: RunOptions,
        continues: bool = False,
        weights: ConvertedWeights | None = None,
    ) -> Float[Tensor, "batch frames dim"]:
        later = LaterFrames(self.aggregator) if continues else None
        return self.aggregator.frame_features(images, options, later, weights)

    def run_chunk(
        self,
        images: Num[Tensor, "batch frames 3 height width"],
        plan: Plan,
        options: RunOptions,
        starts_stream: bool,
        recorder: Any = None,
        weights: ConvertedWeights | None = None,
    ) -> ChunkOutput:
        feature_taps = FeatureTaps(self.config, {"depth": self.depth_head}, options)
        known = None if starts_stream else LaterFrames(self.aggregator)
        with launch_device(options.kernels, images.device):
            layout = self.aggregator.run_layers(
                images, plan, options, feature_taps, recorder, known, weights=weights
            )
            depth, conf = run_dense_head(
                self.depth_head,
                feature_taps.take("depth"),
                layout.grid,
                images.shape,
                options,
                weights,
                on_host=options.host_outputs,
            )
        assert feature_taps.camera_tokens is not None
        tokens = feature_taps.camera_tokens.to(self.camera_head.token_norm.weight.dtype)
        return ChunkOutput(tokens, depth.squeeze(-1), conf)

    def camera_encoding(
        self, camera_tokens: Float[Tensor, "batch frames dim"]
    ) -> Float[Tensor, "batch frames 9"]:
        return self.camera_head(camera_tokens)[-1]

    def _dense_head(self, name: str) -> DenseHead:
        if name == "track":
            return self.track_head.feature_extractor
        return self.depth_head if name == "depth" else self.point_head
