"""What every network can do: nothing outside this folder asks which family it holds."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from ..attention.plan import Plan
from ..errors import UsageError
from .config import NetworkConfig
from .info import ModelInfo
from .precision import ConvertedWeights
from .predictions import Predictions
from .run_options import RunOptions

__all__ = ["ChunkOutput", "Network", "NetworkConfig", "Predictions"]


@dataclasses.dataclass(frozen=True, eq=False)
class ChunkOutput:
    """What a chunk of a stream gives by itself: camera tokens for the camera head, and depth."""

    camera_tokens: Float[Tensor, "batch frames dim"]
    z_depth: Float[Tensor, "batch frames height width"]
    depth_conf: Float[Tensor, "batch frames height width"]


class Network(nn.Module):
    """A network with weights: images in, cameras, depth and points out. `manyview.load` returns one.

    A family derives from it and overrides `forward`; the rest where it can do more.

    Attributes:
        config: The sizes, and what follows from them.
        name, licence, info: Where the weights came from; `load` sets them.
        why_not_attachable: Why frames cannot be attached one by one to others solved before, whatever the
            plan; None where they can, with `encoder_features` and `continues` and `memory` of `forward`.
        why_not_streamable: Why a stream cannot be run chunk by chunk; None where it can, with `run_chunk` and
            `camera_encoding`.
        why_not_distributed: Why several ranks cannot share a scene; None where they can, with `ranks` of
            `RunOptions`.
        trainable: Whether `manyview train` can start from these weights.
    """

    name: str = "unnamed"
    licence: str | None = None
    info: ModelInfo | None = None
    why_not_attachable: str | None = "the network has no way to attach frames"
    why_not_streamable: str | None = "it has no pass over a chunk of a stream"
    why_not_distributed: str | None = "its heads need all views in one process"
    trainable: bool = False

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config

    @property
    def available_heads(self) -> tuple[str, ...]:
        """Names of the heads that these weights have, of `run_options.HEADS`."""
        return self.config.available_heads

    def completed(
        self, images: Tensor, plan: Plan | None, options: RunOptions | None
    ) -> tuple[Tensor, Plan, RunOptions]:
        """Arguments of `forward`: images checked, the default plan and options filled in."""
        options = options or RunOptions()
        images = check_images(images)
        if options.ranks is not None and self.why_not_distributed is not None:
            raise UsageError(f"several ranks cannot share a scene: {self.why_not_distributed}")
        self.config.require_heads((*options.heads, "rays") if options.camera_from_rays else options.heads)
        plan = plan or Plan.dense(self.config.depth)
        self.config.require_reference_view(options.reference_view, plan)
        return images, plan, options

    def forward(
        self,
        images: Tensor,
        plan: Plan | None = None,
        options: RunOptions | None = None,
        recorder: Any = None,
        *,
        weights: ConvertedWeights | None = None,
    ) -> Predictions:
        """Predict cameras, depth and what else the heads give.

        Args:
            images: [B, S, 3, H, W] or [S, 3, H, W], uint8 or floating in [0, 1]; sides in whole patches.
            plan: The attention of each global layer (None: dense).
            options: Precision, heads, and how much runs at a time.
            recorder: May have `mark(stage)`, `global_attention(layer, q, k)`, `global_tokens(layer, tokens)`.
            weights: Converted weights that several passes share (None: kept while they are in use).

        Raises:
            UsageError: Images of another shape or type, a head these weights lack, a plan of another depth,
                kernels that do not run on the images' device.
        """
        raise NotImplementedError

    def encoder_features(
        self,
        images: Tensor,
        options: RunOptions,
        continues: bool = False,
        weights: ConvertedWeights | None = None,
    ) -> Float[Tensor, "batch frames dim"]:
        """Features [B, S, C] of images [B, S, 3, H, W] by which frames are chosen, from the encoder alone.

        With `continues` the scene's first frame is not among these.
        """
        raise NotImplementedError

    def run_chunk(
        self,
        images: Num[Tensor, "batch frames 3 height width"],
        plan: Plan,
        options: RunOptions,
        starts_stream: bool,
        recorder: Any = None,
        weights: ConvertedWeights | None = None,
    ) -> ChunkOutput:
        """Camera tokens and depth of a chunk of a stream.

        Its first frame defines the world only if it `starts_stream`.
        """
        raise NotImplementedError

    def camera_encoding(
        self, camera_tokens: Float[Tensor, "batch frames dim"]
    ) -> Float[Tensor, "batch frames 9"]:
        """Pose encodings of frames whose camera tokens are attended to together."""
        raise NotImplementedError


def check_images(images: Tensor) -> Tensor:
    """Images as [B, S, 3, H, W]; UsageError unless they have that shape (or lack B) and a usable type."""
    images = images[None] if images.ndim == 4 else images
    if images.ndim != 5 or images.shape[2] != 3:
        raise UsageError(f"images must have shape [B, S, 3, H, W], got {tuple(images.shape)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        kind = str(images.dtype).removeprefix("torch.")
        raise UsageError(f"images must be uint8, or floating in [0, 1], not {kind}")
    return images
