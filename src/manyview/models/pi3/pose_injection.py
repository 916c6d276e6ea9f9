"""Known camera poses enter Pi3X's patch tokens through attention in projective coordinates.

Source: "Cameras as relative positional encoding" (PRoPE, arXiv 2507.10496) in the form that Pi3X uses.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ...attention.softmax.sdpa import attend
from ..layers import LayerNorm, LayerScale, Linear, Mlp, in_pieces
from ..precision import PLAIN, Compute

_EPS = 1e-6
_BASE = 100.0


class _Attention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv, self.proj = Linear(dim, 3 * dim), Linear(dim, dim)
        self.q_norm, self.k_norm = (LayerNorm(dim // num_heads) for _ in range(2))


class PoseInjection(nn.Module):
    """A change of patch tokens [B, S*P, C] from the frames' poses; attention and MLP read the same input."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = LayerNorm(dim, eps=_EPS), LayerNorm(dim, eps=_EPS)
        self.attn = _Attention(dim, num_heads)
        self.mlp = Mlp(dim, 4 * dim)
        self.ls1, self.ls2 = LayerScale(dim), LayerScale(dim)

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        cam_from_world: Float[Tensor, "batch frames 4 4"],
        grid: tuple[int, int],
        known: Bool[Tensor, "batch frames"] | None = None,
        mlp_tokens_per_chunk: int | None = None,
        compute: Compute = PLAIN,
        joined: Callable[[Tensor], Tensor] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """`known`: frames with a pose; tokens of other frames are masked as queries and keys.

        What comes out for them has no meaning; the caller leaves it out, or better gives known frames alone,
        as the mask is a matrix over pairs of tokens. `mlp_tokens_per_chunk`: tokens that pass the MLP at a
        time. `joined` makes of the keys, or values, of these frames [B, heads, S*P, d] those of all ranks.
        """
        attn, coordinates = self.attn, _Coordinates(cam_from_world, grid)
        qkv = attn.qkv(self.norm1(x, compute), compute).unflatten(-1, (3, attn.num_heads, -1))
        qkv = qkv.permute(2, 0, 3, 1, 4)
        q, k, v = attn.q_norm(qkv[0], compute), attn.k_norm(qkv[1], compute), qkv[2]
        q = coordinates.apply(q, cam_from_world.transpose(-1, -2))
        world_from_cam = torch.linalg.inv(cam_from_world.float()).to(cam_from_world.dtype)
        k, v = (coordinates.apply(t, world_from_cam) for t in (k, v))
        if joined is not None:
            k, v = joined(k), joined(v)
        if known is not None and not bool(known.all()):
            tokens = known.repeat_interleave(grid[0] * grid[1], 1)
            # A token without a pose attends to itself, which keeps its softmax finite.
            alone = torch.eye(tokens.shape[1], dtype=torch.bool, device=x.device)
            mask = ((tokens[:, :, None] & tokens[:, None]) | alone)[:, None]
            heads = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        else:
            heads = attend(q, k, v)
        del qkv, q, k, v
        heads = coordinates.apply(heads, cam_from_world, back=True)
        change = self.ls1.gamma.to(x.dtype) * attn.proj(heads.transpose(1, 2).flatten(2), compute)
        del heads
        scale = self.ls2.gamma.to(x.dtype)

        def feed_forward(part: Tensor) -> Tensor:
            return scale * self.mlp(self.norm2(part, compute), compute)

        return change + in_pieces(feed_forward, x, mlp_tokens_per_chunk)


class _Coordinates:
    """Half of each head moves with the camera, a quarter turns with the column, a quarter with the row."""

    def __init__(self, cameras: Tensor, grid: tuple[int, int]) -> None:
        self.frames, self.patches = cameras.shape[1], grid[0] * grid[1]
        y, x = torch.meshgrid(*(torch.arange(n, device=cameras.device) for n in grid), indexing="ij")
        self.places = [p.flatten().float().repeat(self.frames) for p in (x, y)]

    def apply(self, t: Float[Tensor, "b h n d"], matrix: Tensor, back: bool = False) -> Tensor:
        half, quarter = t.shape[-1] // 2, t.shape[-1] // 4
        moved = t[..., :half].unflatten(2, (self.frames, self.patches)).unflatten(-1, (-1, 4))
        moved = torch.einsum("bnij,bhnpgj->bhnpgi", matrix.to(t.dtype), moved).flatten(-2).flatten(2, 3)
        turned = [
            _turn(part, place, back)
            for part, place in zip(t[..., half:].split(quarter, -1), self.places, strict=True)
        ]
        return torch.cat([moved, *turned], -1)


def _turn(t: Tensor, place: Tensor, back: bool) -> Tensor:
    count = t.shape[-1] // 2
    angle = place[:, None] * _BASE ** (-torch.arange(count, device=t.device) / count)
    cos, sin = angle.cos().to(t.dtype), (-angle if back else angle).sin().to(t.dtype)
    a, b = t[..., :count], t[..., count:]
    return torch.cat([cos * a + sin * b, cos * b - sin * a], -1)
