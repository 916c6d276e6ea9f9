"""The trunk of VGGT: an encoder, then alternating frame and global blocks (VGGT, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...attention.layout import TokenLayout
from ...attention.plan import Plan
from ..alternating import AlternatingLayers, FeatureTapReader, Known, first_and_others, normalise_images
from ..blocks import Block
from ..encoder import DinoEncoder, PatchConv
from ..precision import Compute, ConvertedWeights
from ..run_options import RunOptions
from .config import VGGTConfig

__all__ = ["FeatureTapReader", "LaterFrames", "Trunk", "normalise_images"]


class Trunk(AlternatingLayers):
    """Images to feature taps. Parameter names are those of the public checkpoints' `aggregator`."""

    def __init__(self, config: VGGTConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        # Two sets each, see `first_and_others`.
        self.camera_token = nn.Parameter(torch.zeros(1, 2, 1, dim))
        self.register_token = nn.Parameter(torch.zeros(1, 2, config.registers, dim))
        self.patch_embed: DinoEncoder | PatchConv = (
            PatchConv(dim, config.patch_size)
            if config.encoder is None
            else DinoEncoder(dim, config.patch_size, config.encoder)
        )
        self.frame_blocks, self.global_blocks = (
            nn.ModuleList(
                Block(dim, config.num_heads, config.mlp_ratio, qk_norm=True) for _ in range(config.depth)
            )
            for _ in range(2)
        )

    def forward(
        self,
        images: Tensor,
        plan: Plan,
        options: RunOptions,
        read_feature_tap: FeatureTapReader,
        recorder: Any = None,
        known: Known | None = None,
        memory: dict[Any, Any] | None = None,
        weights: ConvertedWeights | None = None,
    ) -> TokenLayout:
        """See `run_layers`."""
        return self.run_layers(images, plan, options, read_feature_tap, recorder, known, memory, weights)

    def image_encoder(self) -> DinoEncoder | PatchConv:
        return self.patch_embed

    def frame_block(self, layer: int) -> Block:
        block = self.frame_blocks[layer]
        assert isinstance(block, Block)
        return block

    def global_block(self, layer: int) -> Block:
        block = self.global_blocks[layer]
        assert isinstance(block, Block)
        return block

    def special_tokens(self, batch: int, frames: int) -> Float[Tensor, "b s n c"]:
        tokens = torch.cat([self.camera_token, self.register_token], dim=2)
        return first_and_others(tokens, batch, frames)


class LaterFrames:
    """Frames that continue a scene: none is the reference, so the first gets the others' special tokens.

    A change of tokens after the encoder, see `alternating.Known`.
    """

    def __init__(self, trunk: Trunk) -> None:
        self._trunk = trunk

    def embedded(self, x: Tensor, layout: TokenLayout, compute: Compute) -> Tensor:
        x[:, 0, : layout.special_tokens] = self._trunk.special_tokens(1, 2)[:, 1].to(x.dtype)
        return x

    def after_pair(self, layer: int, x: Tensor, layout: TokenLayout, compute: Compute) -> Tensor:
        return x
