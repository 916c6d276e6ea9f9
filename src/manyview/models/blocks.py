"""The transformer block of every network here, and its attention in the three parts a method needs."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from ..attention.sdpa import attend
from .layers import LayerNorm, LayerScale, Linear, Mlp, PlainSum, in_pieces
from .rotary import Rotation

Tokens = Float[Tensor, "batch tokens dim"]
Heads = Float[Tensor, "batch heads tokens head_dim"]


class Attention(nn.Module):
    """Multi-head self-attention offered as `queries`, `keys_values` and `output`.

    Methods that let frames meet cheaply act before the projections (descriptors) or after them
    (merging, subsampling); each part applies the q/k normalisation and the positions itself.
    """

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.q_norm = LayerNorm(self.head_dim, eps=eps) if qk_norm else nn.Identity()
        self.k_norm = LayerNorm(self.head_dim, eps=eps) if qk_norm else nn.Identity()
        self.proj = Linear(dim, dim)

    def _project(self, x: Tokens, part: int) -> Heads:
        dim = x.shape[-1]
        rows = slice(part * dim, (part + 1) * dim)
        weight, bias = self.qkv.weight[rows].to(x.dtype), self._bias()[rows].to(x.dtype)
        projected = nn.functional.linear(x, weight, bias)
        return projected.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _bias(self) -> Float[Tensor, " three_dim"]:
        return self.qkv.bias

    def queries(self, x: Tokens, rotation: Rotation | None = None, piece: int | None = None) -> Heads:
        """Queries of normalised tokens; `piece` tokens at a time (a multiple of the rotation's period)."""
        return in_pieces(
            lambda t: self._turn(self.q_norm(self._project(t, 0)), rotation), x, piece, out_dim=2
        )

    def keys_values(
        self, x: Tokens, rotation: Rotation | None = None, piece: int | None = None
    ) -> tuple[Heads, Heads]:
        """Keys and values of normalised tokens; values carry neither normalisation nor position."""
        keys = in_pieces(
            lambda t: self._turn(self.k_norm(self._project(t, 1)), rotation), x, piece, out_dim=2
        )
        return keys, in_pieces(lambda t: self._project(t, 2), x, piece, out_dim=2)

    def output(self, heads: Heads) -> Tokens:
        """Join the heads and project."""
        return self.proj(heads.transpose(1, 2).flatten(2))

    def forward(self, x: Tokens, rotation: Rotation | None = None) -> Tokens:
        q = self.queries(x, rotation)
        k, v = self.keys_values(x, rotation)
        return self.output(attend(q, k, v))

    @staticmethod
    def _turn(heads: Heads, rotation: Rotation | None) -> Heads:
        return heads if rotation is None else rotation.apply(heads)


class Block(nn.Module):
    """Pre-norm transformer block: attention, then MLP, each with LayerScale where the network has it.

    `eps` belongs to the norms before attention and MLP; q and k are normalised with 1e-5.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        qk_norm: bool = False,
        eps: float = 1e-5,
        layer_scale: bool = True,
        attention: type[Attention] = Attention,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=eps)
        self.attn = attention(dim, num_heads, qk_norm)
        self.ls1 = LayerScale(dim) if layer_scale else PlainSum()
        self.norm2 = LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim) if layer_scale else PlainSum()

    def forward(
        self,
        x: Tokens,
        rotation: Rotation | None = None,
        *,
        meet: Callable[[Attention, Tokens], Tokens] | None = None,
        mlp_piece: int | None = None,
        inplace: bool = False,
    ) -> Tokens:
        """One block. `meet` replaces self-attention (the seam for global layers).

        `inplace` overwrites `x` (only without gradients); `mlp_piece` tokens pass the MLP at a time.
        """
        if meet is None:
            branch = self.attn(self.norm1(x), rotation)
        else:
            branch = meet(self.attn, self.norm1(x))
        x = self.ls1.add_to(x, branch, inplace)
        del branch
        if not inplace or mlp_piece is None:
            return self.ls2.add_to(x, in_pieces(self._mlp, x, mlp_piece), inplace)
        for start in range(0, x.shape[1], mlp_piece):
            piece = x[:, start : start + mlp_piece]
            self.ls2.add_to(piece, self._mlp(piece), inplace=True)
        return x

    def _mlp(self, x: Tokens) -> Tokens:
        return self.mlp(self.norm2(x))
