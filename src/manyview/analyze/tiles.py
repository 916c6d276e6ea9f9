"""Size of a tile of the score matrix, and sampled queries in the token sequence."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from ..attention.layout import TokenLayout

SCORES_AT_ONCE = 1 << 23


def queries_at_once(heads: int, keys: int, scores: int = SCORES_AT_ONCE) -> int:
    """Queries per tile so that their scores with all keys, of all heads, number at most `scores`."""
    return max(1, scores // (heads * keys))


def sample_queries(layout: TokenLayout, count: int, seed: int) -> Int[Tensor, "queries 2"]:
    """(frame, patch) of at most `count` patches, drawn without replacement from all frames together."""
    total = layout.frames * layout.patches_per_frame
    chosen = torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:count].sort().values
    return torch.stack([chosen // layout.patches_per_frame, chosen % layout.patches_per_frame], 1)


def rows_of(queries: Int[Tensor, "queries 2"], layout: TokenLayout) -> Int[Tensor, " queries"]:
    """Indices of patches (frame, patch) in the token sequence."""
    return queries[:, 0] * layout.tokens_per_frame + layout.special_tokens + queries[:, 1]
