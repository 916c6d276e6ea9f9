"""The transformer block of every network here, and its attention in the three parts a method needs."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from ..attention.softmax.sdpa import attend
from ..kernels import fused
from .layers import LayerNorm, LayerScale, Linear, Mlp, PlainSum, in_pieces
from .precision import linear
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
        return self._by_head(self._projected(x, part))

    def _projected(self, x: Tokens, part: int) -> Tokens:
        dim = x.shape[-1]
        rows = slice(part * dim, (part + 1) * dim)
        return linear(x, self.qkv.weight, self._bias(), rows)

    def _bias(self) -> Float[Tensor, " three_dim"]:
        return self.qkv.bias

    def queries(self, x: Tokens, rotation: Rotation | None = None, piece: int | None = None) -> Heads:
        """Queries of normalised tokens; `piece` tokens at a time (a multiple of the rotation's period)."""
        return self._placed(x, 0, self.q_norm, rotation, piece)

    def keys_values(
        self, x: Tokens, rotation: Rotation | None = None, piece: int | None = None
    ) -> tuple[Heads, Heads]:
        """Keys and values of normalised tokens; values carry neither normalisation nor position."""
        keys = self._placed(x, 1, self.k_norm, rotation, piece)
        if fused(x, self.qkv.weight):
            return keys, self._project(x, 2)  # nothing follows, so that pieces would only be copied together
        return keys, in_pieces(lambda t: self._project(t, 2), x, piece, out_dim=2)

    def output(self, heads: Heads) -> Tokens:
        """Join the heads and project."""
        return self.proj(heads.transpose(1, 2).flatten(2))

    def forward(self, x: Tokens, rotation: Rotation | None = None) -> Tokens:
        if fused(x, self.qkv.weight):  # kernels read parts of a joint projection where they lie
            q, k, v = linear(x, self.qkv.weight, self._bias()).chunk(3, dim=-1)
            q, k = self._kernel(q, self.q_norm, rotation), self._kernel(k, self.k_norm, rotation)
            return self.output(attend(q, k, self._by_head(v)))
        q = self.queries(x, rotation)
        k, v = self.keys_values(x, rotation)
        return self.output(attend(q, k, v))

    def _by_head(self, projected: Tokens) -> Heads:
        return projected.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _placed(
        self, x: Tokens, part: int, norm: nn.Module, rotation: Rotation | None, piece: int | None
    ) -> Heads:
        """Queries (part 0) or keys (1), normalised and turned."""
        if not fused(x, self.qkv.weight):
            return in_pieces(lambda t: _turn(norm(self._project(t, part)), rotation), x, piece, out_dim=2)
        batch, tokens, _ = x.shape
        if piece is None or piece >= tokens:
            return self._kernel(self._projected(x, part), norm, rotation)
        out = x.new_empty(batch, self.num_heads, tokens, self.head_dim)
        for start in range(0, tokens, piece):
            rows = slice(start, start + piece)
            self._kernel(self._projected(x[:, rows], part), norm, rotation, out[:, :, rows])
        return out

    def _kernel(
        self, projected: Tokens, norm: nn.Module, rotation: Rotation | None, out: Heads | None = None
    ) -> Heads:
        """`projected` by head, normalised and turned in one pass; a view where nothing is to be done."""
        from ..kernels.head_rotate import Angles, qk_norm_rotate

        angles = None if rotation is None else Angles(rotation.cos, rotation.sin, rotation.tiled)
        if isinstance(norm, LayerNorm):
            return qk_norm_rotate(
                projected, self.num_heads, norm.weight, norm.bias, norm.eps, angles=angles, out=out
            )
        if angles is None and out is None:
            return self._by_head(projected)
        return qk_norm_rotate(projected, self.num_heads, angles=angles, out=out)


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
        mlp_tokens_per_chunk: int | None = None,
        inplace: bool = False,
    ) -> Tokens:
        """One block. `meet` replaces self-attention (the seam for global layers).

        `inplace` overwrites `x` (only without gradients); `mlp_tokens_per_chunk` tokens pass the MLP
        at a time.
        """
        if meet is None:
            branch = self.attn(self.norm1(x), rotation)
        else:
            branch = meet(self.attn, self.norm1(x))
        if not inplace or mlp_tokens_per_chunk is None or mlp_tokens_per_chunk >= x.shape[1]:
            x, y = self.ls1.add_and_norm(x, branch, self.norm2, inplace)
            del branch
            return self.ls2.add_to(x, in_pieces(self.mlp, y, mlp_tokens_per_chunk), inplace)
        together = fused(x, branch)
        if not together:  # the branch need not outlive the sum
            self.ls1.add_to(x, branch, inplace=True)
            del branch
        for start in range(0, x.shape[1], mlp_tokens_per_chunk):
            rows = slice(start, start + mlp_tokens_per_chunk)
            piece = x[:, rows]
            if together:
                _, y = self.ls1.add_and_norm(piece, branch[:, rows], self.norm2, inplace=True)
            else:
                y = self.norm2(piece)
            self.ls2.add_to(piece, self.mlp(y), inplace=True)
        return x


def _turn(heads: Heads, rotation: Rotation | None) -> Heads:
    return heads if rotation is None else rotation.apply(heads)
