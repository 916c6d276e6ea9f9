"""Two-dimensional rotary positions: half of each head rotates with the row, half with the column."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..attention.layout import TokenLayout


@dataclasses.dataclass(frozen=True)
class Rotation:
    """Cosines and sines for `period` consecutive tokens; longer sequences repeat them frame by frame.

    `cos` and `sin` have shape [period, 2, head_dim / 4]: row angles, then column angles.
    """

    cos: Float[Tensor, "period 2 quarter"]
    sin: Float[Tensor, "period 2 quarter"]
    tiled: ClassVar[bool] = False  # the order of channels, for kernels

    @property
    def period(self) -> int:
        return self.cos.shape[0]

    def select(self, tokens: Int[Tensor, " chosen"]) -> Rotation:
        """Rotation of chosen tokens of the whole sequence, in their order (repeats allowed)."""
        within = tokens.to(self.cos.device) % self.period
        return type(self)(self.cos[within], self.sin[within])

    def apply(self, x: Float[Tensor, "batch heads tokens dim"]) -> Float[Tensor, "batch heads tokens dim"]:
        """Rotate each half of the head dimension; element i pairs with element i + dim/4 of its half."""
        cos = torch.stack([self.cos, self.cos], dim=-2).flatten(1).to(x.dtype)
        sin = torch.stack([-self.sin, self.sin], dim=-2).flatten(1).to(x.dtype)
        return self._turned(x, cos, sin, (1, 0, 3, 2))

    def _turned(self, x: Tensor, cos: Tensor, sin: Tensor, partners: tuple[int, int, int, int]) -> Tensor:
        """x cos + y sin, where y has the quarters of a head's channels in the order of `partners`."""
        x = x.contiguous().unflatten(2, (-1, self.period))  # whole heads: rows that follow each other
        quarters = x.chunk(4, dim=-1)
        turned = torch.cat([quarters[index] for index in partners], dim=-1).mul_(sin)
        return turned.addcmul_(x, cos).flatten(2, 3)


def rotation_for(positions_yx: Int[Tensor, "period 2"], head_dim: int, base: float = 100.0) -> Rotation:
    """Rotation for integer (row, column) positions; (0, 0) is not rotated. Angles are float32."""
    if head_dim % 4:
        raise ValueError(f"2-D rotary positions need a head width divisible by 4, got {head_dim}")
    quarter = head_dim // 4
    exponent = torch.arange(quarter, dtype=torch.float32, device=positions_yx.device) / quarter
    angles = positions_yx[..., None].float() * (1.0 / base**exponent)
    return Rotation(angles.cos(), angles.sin())


def frame_positions(
    grid: tuple[int, int], special_tokens: int, device: torch.device | str | None = None
) -> Int[Tensor, "period 2"]:
    """(row, column) of each token of a frame: specials at (0, 0), patches from (1, 1) on."""
    rows, columns = grid
    y, x = torch.meshgrid(
        torch.arange(1, rows + 1, device=device), torch.arange(1, columns + 1, device=device), indexing="ij"
    )
    patches = torch.stack([y.flatten(), x.flatten()], dim=-1)
    return torch.cat([patches.new_zeros(special_tokens, 2), patches])


def frame_rotation(layout: TokenLayout, head_dim: int, base: float, device: torch.device) -> Rotation:
    """`rotation_for` the tokens of one frame."""
    return rotation_for(frame_positions(layout.grid, layout.special_tokens, device), head_dim, base)
