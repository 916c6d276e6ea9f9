"""The transformer that turns track tokens into corrections: over time per track, over tracks per frame.

Tracks do not attend to each other directly but through a fixed number of virtual tracks, so its cost is
linear in the number of tracks. In every block the residual starts from the normalised input.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ...layers import Mlp
from ..config import TrackHeadConfig

_MLP_RATIO = 4


class SelfBlock(nn.Module):
    """y = n + attention(n) with n = norm1(x), then y + mlp(norm2(y))."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)

    def forward(self, x: Float[Tensor, "b tokens dim"]) -> Float[Tensor, "b tokens dim"]:
        x = self.norm1(x)
        x = x + self.attn(x, x, x, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class CrossBlock(nn.Module):
    """Like SelfBlock, with keys and values from the normalised `context`."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.norm_context = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.cross_attn = nn.MultiheadAttention(dim, heads, batch_first=True)
        self.mlp = Mlp(dim, _MLP_RATIO * dim)

    def forward(
        self, x: Float[Tensor, "b tokens dim"], context: Float[Tensor, "b others dim"]
    ) -> Float[Tensor, "b tokens dim"]:
        x = self.norm1(x)
        context = self.norm_context(context)
        x = x + self.cross_attn(x, context, context, need_weights=False)[0]
        return x + self.mlp(self.norm2(x))


class UpdateTransformer(nn.Module):
    """Track tokens to corrections; parameter names are those of the public checkpoint, misspelling included.

    The config's `time_depth` must be a multiple of `space_depth`: the space blocks come after every
    (time_depth / space_depth)-th time block, starting with the first.
    """

    def __init__(self, input_dim: int, output_dim: int, config: TrackHeadConfig) -> None:
        super().__init__()
        hidden, heads, depth = config.hidden_size, config.num_heads, config.space_depth
        if depth < 1 or config.time_depth % depth:
            raise ValueError(f"time depth {config.time_depth} is not a multiple of space depth {depth}")
        self.time_per_space = config.time_depth // depth
        self.virual_tracks = nn.Parameter(torch.randn(1, config.virtual_tracks, 1, hidden))
        self.input_norm = nn.LayerNorm(input_dim)
        self.input_transform = nn.Linear(input_dim, hidden)
        self.output_norm = nn.LayerNorm(hidden)
        self.flow_head = nn.Linear(hidden, output_dim)
        self.time_blocks = nn.ModuleList(SelfBlock(hidden, heads) for _ in range(config.time_depth))
        self.space_virtual_blocks = nn.ModuleList(SelfBlock(hidden, heads) for _ in range(depth))
        self.space_point2virtual_blocks = nn.ModuleList(CrossBlock(hidden, heads) for _ in range(depth))
        self.space_virtual2point_blocks = nn.ModuleList(CrossBlock(hidden, heads) for _ in range(depth))

    def forward(self, tokens: Float[Tensor, "b n s c"]) -> Float[Tensor, "b n s out"]:
        """Corrections for n tracks over s frames."""
        batch, tracks, frames, _ = tokens.shape
        tracked = self.input_transform(self.input_norm(tokens))
        x = torch.cat((tracked, self.virual_tracks.expand(batch, -1, frames, -1)), dim=1)
        for i, over_time in enumerate(self.time_blocks):
            x = over_time(x.flatten(0, 1)).unflatten(0, (batch, -1))
            if i % self.time_per_space == 0:
                x = self._over_tracks(x, tracks, i // self.time_per_space)
        return self.flow_head(self.output_norm(x[:, :tracks] + tracked))

    def _over_tracks(self, x: Tensor, tracks: int, layer: int) -> Tensor:
        batch = x.shape[0]
        per_frame = x.transpose(1, 2).flatten(0, 1)  # [b * s, n + virtual, c]
        points, virtual = per_frame[:, :tracks], per_frame[:, tracks:]
        virtual = self.space_virtual2point_blocks[layer](virtual, points)
        virtual = self.space_virtual_blocks[layer](virtual)
        points = self.space_point2virtual_blocks[layer](points, virtual)
        return torch.cat((points, virtual), dim=1).unflatten(0, (batch, -1)).transpose(1, 2)
