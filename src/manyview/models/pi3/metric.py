"""Pi3X's metric scale: one learned query attends to all tokens of all frames."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...attention.softmax.logsumexp import attend_with_lse
from ...attention.softmax.sdpa import attend
from ...distributed.ranks import Ranks
from ..layers import LayerNorm, Linear, Mlp
from ..precision import PLAIN, Compute
from ..rotary import Rotation

_EPS = 1e-6


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.proj = (Linear(dim, dim) for _ in range(4))

    def forward(
        self, query: Tensor, context: Tensor, rotation: Rotation, ranks: Ranks | None = None
    ) -> Tensor:
        def heads(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

        # The query stands at (0, 0), where nothing turns.
        q, v = heads(self.q_proj(query)), heads(self.v_proj(context))
        k = rotation.apply(heads(self.k_proj(context)))
        seen = attend(q, k, v) if ranks is None else _over_ranks(q, k, v, ranks)
        return self.proj(seen.transpose(1, 2).flatten(2))


def _over_ranks(q: Tensor, k: Tensor, v: Tensor, ranks: Ranks) -> Tensor:
    """Attention of queries that all ranks have to the keys and values of every rank."""
    heads, lse = attend_with_lse(q, k, v)
    own = torch.cat([heads.to(lse.dtype), lse[..., None]], dim=-1)
    parts = ranks.gather(own[None], 0, (1,) * ranks.split.ranks).wait()
    return (parts[..., -1:].softmax(0) * parts[..., :-1]).sum(0).to(q.dtype)


class _CrossBlock(nn.Module):
    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm2, self.norm_y, self.norm3 = (LayerNorm(dim, eps=_EPS) for _ in range(3))
        self.cross_attn = _CrossAttention(dim, num_heads)
        self.mlp = Mlp(dim, 4 * dim)

    def forward(
        self, query: Tensor, context: Tensor, rotation: Rotation, compute: Compute, ranks: Ranks | None
    ) -> Tensor:
        seen = self.norm_y(context, compute)
        query = query + self.cross_attn(self.norm2(query, compute), seen, rotation, ranks)
        return query + self.mlp(self.norm3(query, compute))


class MetricDecoder(nn.Module):
    """Query [B, 1, in] and context [B, S*P, in] to [B, 1, out]."""

    def __init__(self, in_dim: int, dim: int, depth: int, num_heads: int, out_dim: int) -> None:
        super().__init__()
        self.projects_x, self.projects_y = Linear(in_dim, dim), Linear(in_dim, dim)
        self.blocks = nn.ModuleList(_CrossBlock(dim, num_heads) for _ in range(depth))
        self.linear_out = Linear(dim, out_dim)

    def forward(
        self,
        query: Float[Tensor, "batch one in_dim"],
        context: Float[Tensor, "batch tokens in_dim"],
        rotation: Rotation,
        compute: Compute = PLAIN,
        ranks: Ranks | None = None,
    ) -> Float[Tensor, "batch one out_dim"]:
        """With `ranks` the context is that of this rank's frames, and the query attends to that of all."""
        query, context = self.projects_x(query), self.projects_y(context)
        for block in self.blocks:
            query = block(query, context, rotation, compute, ranks)
        return self.linear_out(query)
