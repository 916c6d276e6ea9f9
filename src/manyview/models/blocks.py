"""The transformer block of every network here, and its attention in the three parts a method needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn

from ..attention.softmax.sdpa import attend
from ..kernels import fused
from .layers import LayerNorm, LayerScale, Linear, Mlp, PlainSum, SwiGlu, in_pieces
from .precision import PLAIN, Compute, linear, scaled_linear
from .rotary import Rotation

Tokens = Float[Tensor, "batch tokens dim"]
Heads = Float[Tensor, "batch heads tokens head_dim"]


class Attention(nn.Module):
    """Multi-head self-attention offered as `queries`, `keys_values` and `output`.

    Acceleration methods act before the projections (descriptors) or after them (merging, subsampling); each
    part applies the q/k normalisation and the rotary positions itself.
    """

    def __init__(self, dim: int, num_heads: int, qk_norm: bool = False, eps: float = 1e-5) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.head_dim = dim // num_heads
        self.qkv = Linear(dim, 3 * dim)
        self.q_norm = LayerNorm(self.head_dim, eps=eps) if qk_norm else None
        self.k_norm = LayerNorm(self.head_dim, eps=eps) if qk_norm else None
        self.proj = Linear(dim, dim)
        self.spatial_compressor: nn.Module | None = None  # FlashVGGT's weights may bring one

    def queries(
        self,
        x: Tokens,
        rotation: Rotation | None = None,
        piece: int | None = None,
        compute: Compute = PLAIN,
    ) -> Heads:
        """Queries of normalised tokens; `piece` tokens at a time (a multiple of the rotation's period)."""
        return self._normed(x, 0, self.q_norm, rotation, piece, compute)

    def keys_values(
        self,
        x: Tokens,
        rotation: Rotation | None = None,
        piece: int | None = None,
        compute: Compute = PLAIN,
    ) -> tuple[Heads, Heads]:
        """Keys and values of normalised tokens; values carry neither normalisation nor positions."""
        keys = self._normed(x, 1, self.k_norm, rotation, piece, compute)
        if fused(compute.kernels, x, self.qkv.weight):
            piece = None  # nothing follows the projection, so that pieces would only be copied together
        values = in_pieces(lambda t: self._by_head(self._project(t, 2, compute)), x, piece, out_dim=2)
        return keys, values

    def output(self, heads: Heads, compute: Compute = PLAIN) -> Tokens:
        """Join the heads and project."""
        return self.proj(heads.transpose(1, 2).flatten(2), compute)

    def forward(self, x: Tokens, rotation: Rotation | None = None, compute: Compute = PLAIN) -> Tokens:
        if fused(compute.kernels, x, self.qkv.weight):  # kernels read parts of a joint projection in place
            q, k, v = linear(x, self.qkv.weight, self._bias(), compute).chunk(3, dim=-1)
            q, k = self._kernel(q, self.q_norm, rotation), self._kernel(k, self.k_norm, rotation)
            return self.output(attend(q, k, self._by_head(v)), compute)
        q = self.queries(x, rotation, compute=compute)
        k, v = self.keys_values(x, rotation, compute=compute)
        return self.output(attend(q, k, v), compute)

    def _bias(self) -> Float[Tensor, " three_dim"]:
        return self.qkv.bias

    def _project(self, x: Tokens, part: int, compute: Compute) -> Tokens:
        """Queries (part 0), keys (1) or values (2), heads side by side."""
        dim = x.shape[-1]
        return linear(x, self.qkv.weight, self._bias(), compute, slice(part * dim, (part + 1) * dim))

    def _by_head(self, projected: Tokens) -> Heads:
        return projected.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2)

    def _normed(
        self,
        x: Tokens,
        part: int,
        norm: LayerNorm | None,
        rotation: Rotation | None,
        piece: int | None,
        compute: Compute,
    ) -> Heads:
        """Queries or keys, normalised and rotated."""
        if not fused(compute.kernels, x, self.qkv.weight):

            def plain(x: Tokens) -> Heads:
                heads = self._project(x, part, compute).unflatten(-1, (self.num_heads, self.head_dim))
                heads = heads if norm is None else norm(heads, compute)  # rows that follow each other
                heads = heads.transpose(1, 2)
                return heads if rotation is None else rotation.apply(heads)

            return in_pieces(plain, x, piece, out_dim=2)
        batch, tokens, _ = x.shape
        if piece is None or piece >= tokens:
            return self._kernel(self._project(x, part, compute), norm, rotation)
        out = x.new_empty(batch, tokens, self.num_heads, self.head_dim).transpose(1, 2)
        for start in range(0, tokens, piece):
            rows = slice(start, start + piece)
            self._kernel(self._project(x[:, rows], part, compute), norm, rotation, out[:, :, rows])
        return out

    def _kernel(
        self, projected: Tokens, norm: LayerNorm | None, rotation: Rotation | None, out: Heads | None = None
    ) -> Heads:
        """`projected` by head, normalised and rotated in one pass; a view where nothing is to be done."""
        from ..kernels.head_rotate import Angles, qk_norm_rotate

        if norm is None and rotation is None and out is None:
            return self._by_head(projected)
        angles = None if rotation is None else Angles(rotation.cos, rotation.sin, rotation.tiled)
        weight, bias, eps = (None, None, None) if norm is None else (norm.weight, norm.bias, norm.eps)
        return qk_norm_rotate(projected, self.num_heads, weight, bias, eps, angles, out)


@dataclasses.dataclass(frozen=True, eq=False)
class BoundAttention:
    """An attention module and how it computes in this pass: what acceleration methods are given."""

    module: Attention
    compute: Compute

    @property
    def spatial_compressor(self) -> nn.Module | None:
        return self.module.spatial_compressor

    def queries(self, x: Tokens, rotation: Rotation | None = None, piece: int | None = None) -> Heads:
        return self.module.queries(x, rotation, piece, self.compute)

    def keys_values(
        self, x: Tokens, rotation: Rotation | None = None, piece: int | None = None
    ) -> tuple[Heads, Heads]:
        return self.module.keys_values(x, rotation, piece, self.compute)

    def output(self, heads: Heads) -> Tokens:
        return self.module.output(heads, self.compute)


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
        mlp: type[Mlp] | type[SwiGlu] = Mlp,
    ) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim, eps=eps)
        self.attn = attention(dim, num_heads, qk_norm)
        self.ls1 = LayerScale(dim) if layer_scale else PlainSum()
        self.norm2 = LayerNorm(dim, eps=eps)
        self.mlp = mlp(dim, int(dim * mlp_ratio))
        self.ls2 = LayerScale(dim) if layer_scale else PlainSum()

    def forward(
        self,
        x: Tokens,
        rotation: Rotation | None = None,
        *,
        across_frames: Callable[[BoundAttention, Tokens], Tokens] | None = None,
        mlp_tokens_per_chunk: int | None = None,
        inplace: bool = False,
        compute: Compute = PLAIN,
    ) -> Tokens:
        """One block. `across_frames` replaces self-attention (the seam for global layers).

        `inplace` overwrites `x` (only without gradients); `mlp_tokens_per_chunk` tokens pass the MLP
        at a time.
        """
        if across_frames is None:
            branch = self.attn(self.norm1(x, compute), rotation, compute)
        else:
            branch = across_frames(BoundAttention(self.attn, compute), self.norm1(x, compute))
        if inplace and fused(compute.kernels, x, branch, *self.norm2.affine()):
            step = min(mlp_tokens_per_chunk or x.shape[1], x.shape[1])
            sums = scaled_linear(self.mlp.last, self.ls2.gamma, x.dtype, compute)
            if sums is not None and (step == x.shape[1] or len(x) == 1) and x.is_contiguous():
                return self._mlp_into(x, branch, step, *sums, compute)
        if not inplace or mlp_tokens_per_chunk is None or mlp_tokens_per_chunk >= x.shape[1]:
            x, y = self.ls1.add_and_norm(x, branch, self.norm2, inplace, compute)
            del branch
            y = in_pieces(lambda part: self.mlp(part, compute), y, mlp_tokens_per_chunk)
            return self.ls2.add_to(x, y, inplace, compute)
        together = fused(compute.kernels, x, branch)
        if not together:  # the branch need not outlive the sum
            self.ls1.add_to(x, branch, inplace=True, compute=compute)
            del branch
        for start in range(0, x.shape[1], mlp_tokens_per_chunk):
            rows = slice(start, start + mlp_tokens_per_chunk)
            piece = x[:, rows]
            if together:
                _, y = self.ls1.add_and_norm(piece, branch[:, rows], self.norm2, True, compute)
            else:
                y = self.norm2(piece, compute)
            self.ls2.add_to(piece, self.mlp(y, compute), True, compute)
        return x

    def _mlp_into(
        self, x: Tokens, branch: Tokens, step: int, weight: Tensor, later: Tensor, compute: Compute
    ) -> Tokens:
        """`x` after both sums, of which the MLP's is made by its last product, `step` tokens at a time."""
        for start in range(0, x.shape[1], step):
            rows = slice(start, start + step)
            piece = x[:, rows]
            y = self.ls1.fused_norm(piece, branch[:, rows], self.norm2, later)
            if rows.stop >= x.shape[1]:
                del branch
            hidden = self.mlp.hidden(y, compute).flatten(0, 1)
            piece.view(-1, x.shape[-1]).addmm_(hidden, weight.t())
        return x
