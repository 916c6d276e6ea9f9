"""Blocks of VGGT-Ω: keys without bias, and rotary positions that follow the shape of the image."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..blocks import Attention, Block
from ..layers import Linear
from ..rotary import Rotation


class MaskedLinear(Linear):
    """A linear layer for queries, keys and values; `bias_mask` is a part of every checkpoint.

    The mask is 1 for queries and values and 0 for keys.
    """

    bias_mask: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__(dim, 3 * dim)
        self.register_buffer("bias_mask", torch.tensor((1.0, 0.0, 1.0)).repeat_interleave(dim))


class MaskedAttention(Attention):
    """Attention whose joint bias is masked."""

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = False, eps: float = 1e-5) -> None:
        super().__init__(dim, num_heads, qk_norm, eps)
        self.qkv: MaskedLinear = MaskedLinear(dim)

    def _bias(self) -> Float[Tensor, " three_dim"]:
        return self.qkv.bias * self.qkv.bias_mask.to(self.qkv.bias.dtype)


def omega_block(dim: int, num_heads: int, mlp_ratio: float, qk_norm: bool = False) -> Block:
    """A pre-norm block with masked key bias; every norm has an epsilon of 1e-5."""
    return Block(dim, num_heads, mlp_ratio, qk_norm, attention=MaskedAttention)


@dataclasses.dataclass(frozen=True)
class TiledRotation(Rotation):
    """Rotation whose element i pairs with element i + head_dim / 2: rows turn the first quarter of either
    half, columns the second. Computed in float32 at least."""

    tiled: ClassVar[bool] = True

    def apply(self, x: Float[Tensor, "batch heads tokens dim"]) -> Float[Tensor, "batch heads tokens dim"]:
        precise = x.to(torch.promote_types(x.dtype, self.cos.dtype))
        cos, sin = (table.flatten(1).to(precise.dtype) for table in (self.cos, self.sin))
        cos, sin = torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)
        return self._turned(precise, cos, sin, (2, 3, 0, 1)).to(x.dtype)


class RotaryPeriods(nn.Module):
    """The periods of the rotary positions, a part of every checkpoint."""

    periods: Tensor

    def __init__(self, head_dim: int, base: float) -> None:
        super().__init__()
        quarter = head_dim // 4
        self.register_buffer("periods", base ** (torch.arange(quarter, dtype=torch.float32) / quarter))

    def rotation(self, grid: tuple[int, int], special_tokens: int) -> TiledRotation:
        """Rotation of one frame whose special tokens do not turn.

        The centre of a patch is at (index + 1/2) / longer side, mapped from [0, 1] to [-1, 1], along both
        axes: the shorter side does not reach 1. Its angle is 2 pi times that over the period.
        """
        longer, device = max(grid), self.periods.device
        rows, columns = (
            2 * ((torch.arange(side, dtype=torch.float32, device=device) + 0.5) / longer) - 1 for side in grid
        )
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).flatten(0, 1)
        angles = 2 * torch.pi * places[..., None] / self.periods
        angles = torch.cat([angles.new_zeros(special_tokens, *angles.shape[1:]), angles])
        return TiledRotation(angles.cos(), angles.sin())
