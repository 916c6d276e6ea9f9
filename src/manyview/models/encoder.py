"""DINOv2 vision transformer with registers: images to patch tokens, one frame at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from .blocks import Block
from .layers import LayerNorm
from .part_configs import EncoderConfig
from .precision import PLAIN, Compute, in_dtype

_EPS = 1e-6


class PatchConv(nn.Module):
    """Non-overlapping patches to tokens by one convolution."""

    def __init__(self, dim: int, patch_size: int, channels: int = 3) -> None:
        super().__init__()
        self.proj = nn.Conv2d(channels, dim, patch_size, stride=patch_size)

    def position_embedding(self, grid: tuple[int, int]) -> None:
        """A convolution needs no positions."""

    def forward(
        self,
        images: Float[Tensor, "n channels height width"],
        positions: None = None,
        compute: Compute = PLAIN,
    ) -> Float[Tensor, "n patches dim"]:
        assert self.proj.bias is not None
        weight, bias = (in_dtype(x, images.dtype, compute) for x in (self.proj.weight, self.proj.bias))
        tokens = F.conv2d(images, weight, bias, stride=self.proj.stride)
        return tokens.flatten(2).transpose(1, 2)


class DinoEncoder(nn.Module):
    """DINOv2 (Oquab et al., 2023) with registers (Darcet et al., 2023).

    Images are already normalised by the ImageNet statistics. The class and register tokens take part
    in attention and are returned beside the patches for inspection.
    """

    def __init__(
        self, dim: int, patch_size: int, config: EncoderConfig, mask_token: bool = True, channels: int = 3
    ) -> None:
        super().__init__()
        self.config = config
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.native_grid**2, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, config.registers, dim))
        if mask_token:  # used only when DINOv2 itself was trained; VGGT's checkpoints have it
            self.mask_token = nn.Parameter(torch.zeros(1, dim), requires_grad=False)
        self.patch_embed = PatchConv(dim, patch_size, channels)
        self.blocks = nn.ModuleList(
            Block(dim, config.num_heads, config.mlp_ratio, eps=_EPS) for _ in range(config.depth)
        )
        self.norm = LayerNorm(dim, eps=_EPS)

    def position_embedding(self, grid: tuple[int, int]) -> Float[Tensor, "1 tokens dim"]:
        """Position table for `grid`, class entry first (resized: bicubic, antialiased)."""
        return resized_positions(self.pos_embed, self.config.native_grid, grid)

    def all_tokens(
        self,
        images: Float[Tensor, "n channels height width"],
        positions: Float[Tensor, "1 placed dim"],
        compute: Compute = PLAIN,
    ) -> Float[Tensor, "n tokens dim"]:
        """Normalised tokens in the order class, registers, patches."""
        patches = self.patch_embed(images, compute=compute)
        dtype, count = patches.dtype, patches.shape[0]
        positions = positions.to(dtype)
        cls = (self.cls_token.to(dtype) + positions[:, :1]).expand(count, -1, -1)
        registers = self.register_tokens.to(dtype).expand(count, -1, -1)
        x = torch.cat([cls, registers, patches + positions[:, 1:]], dim=1)
        inplace = not torch.is_grad_enabled()
        for block in self.blocks:
            x = block(x, inplace=inplace, compute=compute)
            compute.block_done()
        return self.norm(x, compute)

    def forward(
        self,
        images: Float[Tensor, "n channels height width"],
        positions: Float[Tensor, "1 tokens dim"],
        compute: Compute = PLAIN,
    ) -> Float[Tensor, "n patches dim"]:
        """Patch tokens; `positions` comes from `position_embedding` of the images' grid."""
        return self.all_tokens(images, positions, compute)[:, 1 + self.config.registers :]


def resized_positions(
    positions: Float[Tensor, "1 native dim"],
    native: int,
    grid: tuple[int, int],
    offset: float | None = None,
) -> Float[Tensor, "1 tokens dim"]:
    """A table of `native` x `native` patches for `grid`, the class entry in front as it is; bicubic.

    With an `offset` the sides are taken that much longer, and there is no antialiasing: DINOv2 as released
    (0.1).
    """
    if grid == (native, native):
        return positions
    cls, patches = positions[:, :1].float(), positions[:, 1:].float()
    table = patches.reshape(1, native, native, -1).permute(0, 3, 1, 2)
    if offset is None:
        table = F.interpolate(table, size=grid, mode="bicubic", antialias=True, align_corners=False)
    else:
        rows, columns = ((side + offset) / native for side in grid)
        table = F.interpolate(table, scale_factor=(rows, columns), mode="bicubic", align_corners=False)
    return torch.cat([cls, table.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
