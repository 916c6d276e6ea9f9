"""DINOv3-style vision transformer: images to patch tokens, one frame at a time."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..encoder import PatchConv
from ..layers import LayerNorm
from ..part_configs import EncoderConfig
from ..precision import PLAIN, Compute
from ..rotary import Rotation
from .blocks import RotaryPeriods, omega_block


class OmegaEncoder(nn.Module):
    """DINOv3 (arXiv 2508.10104) without a position table: patches carry rotary positions in every block.

    Images are already normalised by the ImageNet statistics.
    """

    def __init__(self, dim: int, patch_size: int, config: EncoderConfig, rope_base: float = 100.0) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.storage_tokens = nn.Parameter(torch.zeros(1, config.registers, dim))
        # Used only when the encoder itself was trained; checkpoints have it.
        self.mask_token = nn.Parameter(torch.zeros(1, dim), requires_grad=False)
        self.patch_embed = PatchConv(dim, patch_size)
        self.rope_embed = RotaryPeriods(dim // config.num_heads, rope_base)
        self.blocks = nn.ModuleList(
            omega_block(dim, config.num_heads, config.mlp_ratio) for _ in range(config.depth)
        )
        self.norm = LayerNorm(dim)

    def position_embedding(self, grid: tuple[int, int]) -> Rotation:
        """Rotary positions of a grid of patches; class and storage tokens have none."""
        return self.rope_embed.rotation(grid, 1 + self.config.registers)

    def all_tokens(
        self, images: Float[Tensor, "n 3 height width"], positions: Rotation, compute: Compute = PLAIN
    ) -> Float[Tensor, "n tokens dim"]:
        """Normalised tokens in the order class, storage, patches."""
        patches = self.patch_embed(images, compute=compute)
        specials = torch.cat([self.cls_token, self.storage_tokens], dim=1).to(patches.dtype)
        x = torch.cat([specials.expand(len(patches), -1, -1), patches], dim=1)
        inplace = not torch.is_grad_enabled()
        for block in self.blocks:
            x = block(x, positions, inplace=inplace, compute=compute)
            compute.block_done()
        return self.norm(x, compute)

    def forward(
        self, images: Float[Tensor, "n 3 height width"], positions: Rotation, compute: Compute = PLAIN
    ) -> Float[Tensor, "n patches dim"]:
        """Patch tokens; `positions` comes from `position_embedding` of the images' grid."""
        return self.all_tokens(images, positions, compute)[:, 1 + self.config.registers :]
